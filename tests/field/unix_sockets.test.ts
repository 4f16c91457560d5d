/**
 * Who may connect to a unix socket: its owner, its group and its mode outlast a reload. Needs root.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import type { Plan } from "../fixtures/access.ts";
import type { TestScope } from "../support/clean_up.ts";
import {
  fixture,
  type Program,
  type Report,
  startProgram,
  temporaryFolder,
} from "../support/program.ts";
import { isAlive } from "../support/proc.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** Two users of every Debian system, and their groups: daemon and nobody. */
const PROXY = 1;
const NOBODY = 65_534;

const access = (path: string) => {
  const { uid, gid, mode } = lstatSync(path);
  return { uid, gid, mode: mode & 0o7777 };
};

/** What a user who connects is answered, or the error. */
function askAs(uid: number, path: string): string {
  const code = `require("node:http").get({ socketPath: ${
    JSON.stringify(path)
  }, agent: false }, (answer) => answer.pipe(process.stdout))
    .on("error", ({ code }) => console.log(code))`;
  return execFileSync(process.execPath, ["-e", code], {
    uid,
    gid: uid,
    cwd: "/",
    encoding: "utf8",
    env: {},
  }).trim();
}

interface Scene {
  readonly program: Program;
  readonly first: Report;
  readonly path: string;
  plan(plan: Plan): void;
}

/** Starts the server of the fixture. */
async function start(
  t: TestScope,
  runtime: Runtime,
  kind: string,
  first: Plan,
  { wrap = [], owner = 0 }: { wrap?: readonly string[]; owner?: number } = {},
): Promise<Scene> {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  const own = join(folder, "own");
  mkdirSync(own);
  chownSync(own, owner, owner);
  const path = join(own, "app.sock");
  const planFile = join(folder, "plan.json");
  const plan = (plan: Plan) => writeFileSync(planFile, JSON.stringify(plan));
  plan(first);
  const program = startProgram(t, runtime, {
    command: [...wrap, runtime.executable, ...runtime.flags, fixture("access.ts")],
    cwd: folder,
    env: {
      KIND: kind,
      SOCKET: path,
      PLAN: planFile,
      XDG_RUNTIME_DIR: own,
      HOME: own,
      DENO_DIR: join(own, "deno"),
    },
  });
  const serving = await program.report("serving");
  await until("the socket to be at its path", () => readdirSync(own).includes(basename(path)));
  return { program, first: serving, path, plan };
}

/** The names of sockets beside the path. */
const beside = (path: string) =>
  readdirSync(dirname(path)).filter((name) => name.startsWith(`${basename(path)}.`));

for (const runtime of runtimes) {
  for (const kind of runtime.servers) {
    test(`${runtime.name}: ${kind}: owner, group and mode that the operator has set stay, and the proxy can always connect`, async (t) => {
      const { program, first, path } = await start(t, runtime, kind, {});
      chownSync(path, 2, PROXY);
      chmodSync(path, 0o660);
      const set = access(path);
      assert.deepEqual(set, { uid: 2, gid: PROXY, mode: 0o660 });
      let current = first;
      for (let i = 1; i <= 2; i++) {
        program.signal(current);
        const next = await program.report("in-charge", { generation: i });
        assert.deepEqual(access(path), set);
        assert.equal(askAs(PROXY, path), `generation ${i}`);
        assert.equal(askAs(NOBODY, path), "EACCES");
        await until("the old process to be gone", () => !isAlive(current.pid));
        assert.deepEqual(access(path), set);
        current = next;
      }
      assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
    });

    test(`${runtime.name}: ${kind}: a new process that waits lets nobody in through its private name`, async (t) => {
      const wrap = ["/bin/sh", "-c", `umask 0; exec "$@"`, "sh"];
      const { program, first, path, plan } = await start(t, runtime, kind, {}, { wrap });
      chownSync(path, 2, PROXY);
      chmodSync(path, 0o600);
      plan({ then: "wait" });
      program.signal(first);
      const { pid } = await program.report("serving", { generation: 1 });
      await until(
        "it to be narrowed",
        () => beside(path).includes(`app.sock.${pid}`) && access(`${path}.${pid}`).mode === 0o600,
      );
      assert.deepEqual(access(`${path}.${pid}`), { uid: 2, gid: PROXY, mode: 0o600 });
    });

    test(`${runtime.name}: ${kind}: what a new version sets holds from then on, and is undone when it fails`, async (t) => {
      const one = { uid: 0, gid: PROXY, mode: 0o660 };
      const two = { uid: 2, gid: NOBODY, mode: 0o660 };
      const { program, first, path, plan } = await start(t, runtime, kind, {});
      chownSync(path, one.uid, one.gid);
      chmodSync(path, one.mode);

      plan({ access: two, then: "wait" });
      program.signal(first);
      const { pid } = await program.report("serving", { generation: 1 });
      process.kill(pid, "SIGKILL");
      await program.report("reload-fail");
      assert.deepEqual(access(path), one, "it failed before it was in charge");
      assert.equal(askAs(PROXY, path), "generation 0");

      plan({ access: two, then: "die" });
      const before = program.reports.length;
      program.signal(first);
      await program.report("reload-fail", {}, before);
      assert.deepEqual(access(path), one, "it failed on probation");
      assert.equal(askAs(PROXY, path), "generation 0");
      assert.deepEqual(beside(path), []);

      plan({ access: two });
      program.signal(first);
      await program.report("reload-end");
      assert.deepEqual(access(path), two);
      assert.equal(askAs(NOBODY, path), "generation 1");
    });

    test(`${runtime.name}: ${kind}: where the owner may not be set, it serves on, and warns once`, async (t) => {
      const wrap = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
      const { program, first, path, plan } = await start(t, runtime, kind, {}, {
        wrap,
        owner: NOBODY,
      });
      chownSync(path, PROXY, PROXY);
      chmodSync(path, 0o660);
      // Twice by the same process.
      plan({ then: "die" });
      program.signal(first);
      await program.report("reload-fail");
      assert.deepEqual(access(path), { uid: PROXY, gid: PROXY, mode: 0o660 });
      assert.equal(askAs(PROXY, path), "generation 0");
      plan({});
      program.signal(first);
      await program.report("reload-end");
      assert.deepEqual(access(path), { uid: NOBODY, gid: NOBODY, mode: 0o660 });
      assert.equal(askAs(NOBODY, path), "generation 1");
      const warnings = program.reports.filter(({ type }) => type === "warning");
      assert.deepEqual(warnings.length, 1, JSON.stringify(warnings));
      assert.match(
        warnings[0]?.message,
        /app\.sock had user 1, group 1, mode 660, and now has user 65534, .* SocketGroup=/,
      );
      assert.deepEqual(beside(path), []);
    });
  }
}

/**
 * What may happen to a reload, tried on a real server under load. `npm run bench -- faults` runs
 * all of it for every server and prints the table; the tests run it for one server of each kind.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import type { ServerSetup } from "../fixtures/server.ts";
import { failureCount, type Load, startLoad, type Target } from "../load/load.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { runCli } from "../support/cli.ts";
import { freePort } from "../support/port.ts";
import { descriptorsOf, isAlive } from "../support/proc.ts";
import {
  fixture,
  type Program,
  type Report,
  startProgram,
  temporaryFolder,
} from "../support/program.ts";
import type { Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** A server that faults happen to. */
export interface Subject {
  readonly name: string;
  readonly runtime: Runtime;
  readonly kind: "http" | "adopted" | "native";
  /** On a unix socket, or on a socket that it is started with. */
  readonly on: "tcp" | "unix" | "activated";
}

/** All servers of these runtimes. */
export function subjectsOf(runtimes: readonly Runtime[]): Subject[] {
  return runtimes.flatMap((runtime) => {
    const native = runtime.kind === "deno" ? "Deno.serve" : "Bun.serve";
    return runtime.servers.flatMap((kind) => {
      const name = kind === "http"
        ? `${runtime.name} bind`
        : kind === "adopted"
        ? native
        : `${native}, reusePort`;
      // Nothing can be given to a native server.
      const places = kind === "http"
        ? ["tcp", "unix", "activated"] as const
        : ["tcp", "unix"] as const;
      return places.map((on) => ({
        name: on === "tcp" ? name : `${name}, ${on}`,
        runtime,
        kind,
        on,
      }));
    });
  });
}

/** A server that was started, with its clients. */
export interface Scene {
  readonly t: TestScope;
  readonly subject: Subject;
  readonly program: Program;
  readonly first: Report;
  readonly target: Target;
  readonly loads: readonly Load[];
  /** What the program is started from and in, to be removed by the fault. */
  readonly folder: string;
}

/** What happens, and what must come of it. */
export interface Fault {
  readonly name: string;
  /** What the application asks for. */
  readonly options?: object;
  readonly env?: (t: TestScope) => Record<string, string>;
  /** Is the program started from a copy of its own? */
  readonly copied?: boolean;
  /**
   * May requests fail? `inFlight`: only what the process that died had begun. `all`: the program is
   * to end. `gap`: connections are refused for a moment.
   */
  readonly mayFail?: (subject: Subject) => "inFlight" | "gap" | "all" | undefined;
  /** Does it happen only where it can? */
  readonly onlyFor?: (subject: Subject) => boolean;
  /**
   * Makes it happen, and returns the process that must be in charge then, or `undefined` where all
   * must have ended.
   */
  happen(scene: Scene): Promise<Report | undefined>;
}

/** What a fault came to. */
export interface Outcome {
  readonly failed: number;
  readonly requests: number;
  readonly failures: string;
}

/**
 * Lets a fault happen to a server, and checks that it is in charge and can be reloaded afterwards.
 */
export async function runFault(t: TestScope, subject: Subject, fault: Fault): Promise<Outcome> {
  const scene = await begin(t, subject, fault);
  const { program, loads } = scene;
  const answered = () => loads.map(({ tally }) => tally.ok);
  await until("all clients to be answered", () => answered().every((ok) => ok > 0));
  const survivor = await fault.happen(scene);
  if (survivor !== undefined) {
    assert.ok(isAlive(survivor.pid), "the process in charge is alive");
    const before = answered();
    await until(
      "all clients to be answered afterwards",
      () => answered().every((ok, i) => ok > (before[i] as number) + 2),
    );
    program.behave("run");
    const from = program.reports.length;
    program.signal(survivor);
    const next = await program.report(
      "in-charge",
      ({ predecessor }) => predecessor === "handed over",
      from,
    );
    await program.report("cancel", { pid: survivor.pid }, from);
    await until(
      "the next generation to answer",
      () => loads.some(({ tally }) => tally.generations.has(next.generation)),
    );
  } else {
    await until("the whole program to end", () => program.pids().every((pid) => !isAlive(pid)));
  }
  const tallies = await Promise.all(loads.map((load) => load.stop()));
  const failures = tallies.flatMap(({ failures }) =>
    [...failures].map(([kind, count]) => `${count} ${kind}`)
  ).join(", ");
  const failed = tallies.reduce((sum, tally) => sum + failureCount(tally), 0);
  const requests = tallies.reduce((sum, { ok }) => sum + ok, 0);
  if (fault.mayFail?.(subject) === undefined) assert.equal(failed, 0, failures);
  // A client has one request under way, and may have another when the connections that wait are
  // closed.
  if (fault.mayFail?.(subject) === "inFlight") {
    assert.ok(failed <= 2 * CLIENTS * loads.length, `${failed} failed: ${failures}`);
  }
  return { failed, requests, failures };
}

const CLIENTS = 2;

async function begin(
  t: TestScope,
  subject: Subject,
  { options = {}, env = () => ({}), copied = false }: Fault,
): Promise<Scene> {
  const { runtime, kind, on } = subject;
  const folder = temporaryFolder(t);
  const path = on === "unix" ? join(folder, "server.sock") : undefined;
  const port = on === "tcp" ? await freePort() : 0;
  const setup: ServerSetup = {
    kind,
    path,
    ports: [port],
    name: on === "activated" ? "web" : undefined,
  };
  setup.options = {
    probation: 300,
    idleGrace: 300,
    drainTimeout: 5_000,
    readyTimeout: 10_000,
    ...options,
  };
  let script = fixture("server.ts");
  const cwd = join(folder, "cwd");
  mkdirSync(cwd);
  if (copied) {
    script = join(folder, "app.ts");
    writeFileSync(script, `import ${JSON.stringify(fixture("server.ts"))};\n`);
  }
  const descriptors: number[] = [];
  let listener: Server | undefined;
  const activation: Record<string, string> = {};
  let target: Target = path === undefined ? { port } : { path };
  let wrap: string[] = [];
  if (on === "activated") {
    listener = createServer();
    await new Promise<void>((resolve) => listener?.listen(0, "127.0.0.1", resolve));
    target = { port: (listener.address() as { port: number }).port };
    descriptors.push((listener as unknown as { _handle: { fd: number } })._handle.fd);
    Object.assign(activation, { LISTEN_FDS: "1", LISTEN_FDNAMES: "web" });
    wrap = ["/bin/sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh"];
  }
  const program = startProgram(t, runtime, {
    command: [...wrap, runtime.executable, ...runtime.flags, script],
    descriptors,
    cwd,
    env: { SERVER: JSON.stringify(setup), ...activation, ...env(t) },
  });
  const first = await program.report("serving");
  listener?.close(); // The program has its own, of the same socket.
  const loads = [startLoad("new", target, CLIENTS), startLoad("keep", target, CLIENTS)];
  cleanUp(t, () => Promise.all(loads.map((load) => load.stop())));
  return { t, subject, program, first, target, loads, folder };
}

/** A new version with this behaviour fails, and the old process goes on. */
function fails(behaviour: string, code: string): Fault["happen"] {
  return async ({ program, first }) => {
    program.behave(behaviour);
    program.signal(first);
    const { error } = await program.report("reload-fail", { pid: first.pid });
    assert.equal(error.code, code, error.message);
    assert.ok(error.pid === undefined || !isAlive(error.pid), "the new process is gone");
    return first;
  };
}

/** The new process when it waits to be told that it is ready. */
async function waiting({ program, first }: Scene): Promise<Report> {
  program.behave("manual");
  program.signal(first);
  return await program.report("waiting");
}

/** All generations have become one, which nobody is about to replace. */
export async function settled(program: Program): Promise<Report> {
  return await until("the reloads to be over", () => {
    const alive = new Set(program.pids().filter(isAlive));
    if (alive.size !== 1) return undefined;
    const [pid] = alive;
    return program.reports.find((report) => report.type === "serving" && report.pid === pid);
  });
}

/**
 * A limit of file descriptors, so many above those in use: the reload fails, or it does without.
 */
function limited(more: number): Fault["happen"] {
  return async ({ program, first }) => {
    const limit = (pid: number, soft: number) =>
      execFileSync("prlimit", ["--pid", String(pid), `--nofile=${soft}:`]);
    limit(first.pid, Math.max(...descriptorNumbers(first.pid)) + 1 + more);
    program.signal(first);
    const { type, error } = await program.report(
      "",
      ({ type }) => type === "reload-fail" || type === "reload-end",
    );
    if (type === "reload-fail") {
      assert.match(error.message, /file descriptors|open files|EMFILE|errno 24|os error 24/i);
    }
    const survivor = type === "reload-fail"
      ? first
      : await program.report("in-charge", { generation: first.generation + 1 });
    limit(survivor.pid, 1024);
    return survivor;
  };
}

/** Has the process a socket that listens on this port? proc_net(5). */
function listens(pid: number, port: number): boolean {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  const inodes = ["tcp", "tcp6"].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, "utf8").split("\n")
  )
    .filter((line) => line.includes(local) && line.includes(" 0A ")).map((line) =>
      line.trim().split(/\s+/)[9]
    );
  return descriptorNumbers(pid).some((fd) => {
    try {
      return inodes.some((inode) => readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`);
    } catch {
      return false; // Closed meanwhile.
    }
  });
}

function descriptorNumbers(pid: number): number[] {
  assert.ok(descriptorsOf(pid).length > 0);
  return readdirSync(`/proc/${pid}/fd`).map(Number);
}

/** A file system that is soon full. */
export function smallDisk(t: TestScope): string {
  const folder = temporaryFolder(t);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", folder]);
  cleanUp(t, () => execFileSync("umount", ["-l", folder]));
  return folder;
}

/** Fills it, but for what was there. */
function fill(folder: string): void {
  try {
    writeFileSync(join(folder, "filler"), new Uint8Array(2 ** 16));
  } catch {
    // ENOSPC, as it should be.
  }
}

/**
 * Makes a cgroup of version 1 with a memory limit, for the new process alone: in a group with the
 * old one the kernel may kill both, when the first has not given its memory back yet.
 */
function limitedGroup(t: TestScope, pid: number, bytes: number): string {
  const group = `/sys/fs/cgroup/memory/reload-self-${pid}`;
  mkdirSync(group);
  cleanUp(t, () =>
    until("the cgroup to be empty", () => {
      for (const pid of readFileSync(join(group, "cgroup.procs"), "utf8").split("\n")) {
        if (pid !== "") process.kill(Number(pid), "SIGKILL");
      }
      try {
        execFileSync("rmdir", [group], { stdio: "ignore" });
        return true;
      } catch {
        return false;
      }
    }));
  writeFileSync(join(group, "memory.limit_in_bytes"), String(bytes));
  return group;
}

const hasCgroup = existsSync("/sys/fs/cgroup/memory/memory.limit_in_bytes");
const inFlight = () => "inFlight" as const;
const all = () => "all" as const;
/**
 * Only those of Node and Bun can be lent to the new process. The others are opened anew when the
 * old one is gone, and refused until then.
 */
const untilOpened = ({ runtime, kind, on }: Subject) =>
  kind === "http" && (on === "activated" || (runtime.kind !== "deno" && on === "tcp"))
    ? "inFlight" as const
    : "gap" as const;

/**
 * The old one opens its sockets anew on Deno, and what waits in a unix socket is lost with the
 * process that made it.
 */
const untilReopened = ({ runtime, kind, on }: Subject) =>
  on === "unix" || (kind === "http" && on === "tcp" && runtime.kind === "deno")
    ? "gap" as const
    : "inFlight" as const;

/** The faults, in the order in which a reload meets them. */
export const faults: readonly Fault[] = [
  { name: "new: exits at start", happen: fails("exit 3", "exit") },
  { name: "new: throws at start", happen: fails("crash", "exit") },
  { name: "new: throws when it listens", happen: fails("crash-late", "exit") },
  { name: "new: hangs", options: { readyTimeout: 4_000 }, happen: fails("hang", "timeout") },
  { name: "new: loops", options: { readyTimeout: 4_000 }, happen: fails("loop", "timeout") },
  {
    name: "new: killed before it is ready",
    async happen(scene) {
      scene.program.signal(await waiting(scene), "SIGKILL");
      await scene.program.report("reload-fail");
      return scene.first;
    },
  },
  {
    name: "new: stopped before it is ready",
    options: { readyTimeout: 6_000 },
    async happen(scene) {
      scene.program.signal(await waiting(scene), "SIGSTOP");
      await scene.program.report("reload-fail");
      return scene.first;
    },
  },
  {
    name: "new: killed 5 ms after it is in charge",
    mayFail: untilReopened,
    async happen({ program, first }) {
      program.behave("die 5");
      program.signal(first);
      const { error, wasInCharge } = await program.report("reload-fail", { pid: first.pid });
      // It may be gone before the old one has read that it was in charge.
      const [when, after] = wasInCharge
        ? ["\\d+ ms after", "is in charge again"]
        : ["before", "goes on unchanged"];
      assert.match(error.message, new RegExp(`was ended by SIGKILL ${when} it was in charge`));
      await program.line(new RegExp(`Process ${first.pid} ${after}`));
      return first;
    },
  },
  {
    name: "new: over its memory limit (cgroup)",
    options: { readyTimeout: 60_000 },
    onlyFor: () => hasCgroup,
    async happen(scene) {
      const group = limitedGroup(scene.t, scene.first.pid, 400 * 2 ** 20);
      await fails(`memory ${group}`, "exit")(scene);
      assert.match(
        readFileSync(join(group, "memory.oom_control"), "utf8"),
        /^oom_kill 1$/m,
        "the kernel has killed it",
      );
      return scene.first;
    },
  },
  {
    name: "old: killed before the new one is ready",
    mayFail: untilOpened,
    async happen(scene) {
      const next = await waiting(scene);
      if (untilOpened(scene.subject) === "inFlight" && scene.subject.on === "tcp") {
        await until(
          "the new process to hold the socket",
          () => listens(next.pid, scene.target.port as number),
        );
      }
      scene.program.signal(scene.first, "SIGKILL");
      await scene.program.report("in-charge", { pid: next.pid, predecessor: "gone" });
      scene.program.signal(next, "SIGUSR2");
      return next;
    },
  },
  {
    name: "old: killed while the new one is on probation",
    options: { probation: 1_500, idleGrace: 1_500 },
    mayFail: inFlight,
    async happen({ program, first }) {
      program.signal(first);
      const next = await program.report("in-charge", { generation: first.generation + 1 });
      program.signal(first, "SIGKILL");
      await until("the old process to be gone", () => !isAlive(first.pid));
      return next;
    },
  },
  {
    name: "old: stopped and continued half-way",
    async happen(scene) {
      const next = await waiting(scene);
      scene.program.signal(scene.first, "SIGSTOP");
      scene.program.signal(next, "SIGUSR2");
      await until(
        "the old process to be stopped",
        () => readFileSync(`/proc/${scene.first.pid}/stat`, "utf8").includes(") T "),
      );
      scene.program.signal(scene.first, "SIGCONT");
      await scene.program.report("in-charge", { pid: next.pid });
      return next;
    },
  },
  ...[1, 4, 8].map((more): Fault => ({
    name: `old: ${more} free file descriptor${more > 1 ? "s" : ""}`,
    // What accepts connections needs descriptors as well: the clients' are refused, not lost by the
    // reload.
    mayFail: () => "all",
    onlyFor: ({ on }) => on === "tcp",
    happen: limited(more),
  })),
  {
    name: "50 signals at once",
    async happen({ program, first }) {
      for (let i = 0; i < 50; i++) program.signal(first);
      return await settled(program);
    },
  },
  {
    name: "50 signals over two seconds",
    async happen({ program, first }) {
      for (let i = 0; i < 50; i++) {
        const pid = program.pids().findLast(isAlive);
        const isServing = pid === first.pid ||
          program.reports.some((report) => report.type === "serving" && report.pid === pid);
        if (pid !== undefined && isServing) program.signal(pid);
        await new Promise((resolve) => setTimeout(resolve, 40));
      }
      assert.ok(
        program.reports.some(({ type, pid }) => type === "reload-begin" && pid === first.pid),
      );
      return await settled(program);
    },
  },
  {
    name: "SIGHUP during a shutdown",
    mayFail: all,
    async happen({ program, first }) {
      program.signal(first, "SIGTERM");
      program.signal(first);
      await program.report("drained", { pid: first.pid });
      return undefined;
    },
  },
  {
    name: "SIGTERM during a reload",
    mayFail: all,
    async happen(scene) {
      await waiting(scene);
      scene.program.signal(scene.first, "SIGTERM");
      const { error } = await scene.program.report("reload-fail");
      assert.equal(error.code, "cancelled");
      assert.ok(!scene.program.lines.some((line) => line.includes("goes on unchanged")));
      return undefined;
    },
  },
  {
    name: "SIGTERM to the old one when the new one is in charge",
    options: { probation: 5_000, idleGrace: 5_000 },
    mayFail: all,
    async happen({ program, first }) {
      program.signal(first);
      const next = await program.report("in-charge", { generation: first.generation + 1 });
      program.signal(first, "SIGTERM");
      const { reason } = await program.report("cancelled", { pid: next.pid });
      assert.deepEqual(reason, { kind: "shutdown", signal: "SIGTERM" });
      return undefined;
    },
  },
  {
    name: "SIGTERM to the new one on probation",
    options: { probation: 5_000, idleGrace: 5_000 },
    mayFail: all,
    async happen({ program, first }) {
      program.signal(first);
      const next = await program.report("in-charge", { generation: first.generation + 1 });
      program.signal(next, "SIGTERM");
      await program.report("cancelled", { pid: next.pid });
      const { reason } = await program.report("cancelled", { pid: first.pid });
      assert.equal(reason.kind, "reload", "the old one has not taken charge again");
      return undefined;
    },
  },
  {
    name: "the program's file is removed",
    copied: true,
    async happen(scene) {
      const script = join(scene.folder, "app.ts");
      copyFileSync(script, `${script}.kept`);
      rmSync(script);
      await fails("run", "exit")(scene);
      copyFileSync(`${script}.kept`, script);
      return scene.first;
    },
  },
  {
    name: "the working directory is removed",
    async happen(scene) {
      const cwd = join(scene.folder, "cwd");
      rmSync(cwd, { recursive: true });
      await fails("run", "start")(scene);
      mkdirSync(cwd);
      return scene.first;
    },
  },
  {
    name: "the disk is full",
    env: (t) => ({ XDG_RUNTIME_DIR: smallDisk(t) }),
    async happen({ program, first }) {
      const folder =
        (/XDG_RUNTIME_DIR=([^\0]*)/.exec(readFileSync(`/proc/${first.pid}/environ`, "utf8")) ?? [])[
          1
        ] as string;
      fill(folder);
      program.signal(first);
      const next = await program.report("in-charge", { generation: first.generation + 1 });
      await program.report("cancel", { pid: first.pid });
      const left = readdirSync(folder, { recursive: true }).map(String).filter((name) =>
        name.endsWith(".new")
      );
      assert.deepEqual(left, [], "nothing half-written is left");
      return next;
    },
  },
  {
    name: "the runtime directory is a planted link",
    env(t) {
      const [folder, other] = [temporaryFolder(t), temporaryFolder(t)];
      symlinkSync(other, join(folder, "reload-self"));
      cleanUp(
        t,
        () => assert.deepEqual(readdirSync(other), [], "nothing was written where the link leads"),
      );
      return { XDG_RUNTIME_DIR: folder };
    },
    async happen({ program, first }) {
      program.signal(first);
      return await program.report("in-charge", { generation: first.generation + 1 });
    },
  },
  {
    name: "stdout and stderr are closed pipes",
    onlyFor: ({ on }) => on === "tcp",
    // Nothing is heard of such a program: it is one beside the one that the clients have, and its
    // status file says what it does.
    async happen({ t, program, subject }) {
      const { runtime } = subject;
      const folder = temporaryFolder(t);
      const setup = {
        kind: subject.kind,
        ports: [await freePort()],
        options: { probation: 100, idleGrace: 100 },
        silent: true,
      };
      const deaf = startProgram(t, runtime, {
        command: [
          "/bin/sh",
          "-c",
          `"$@" 2>&1 | :`,
          "sh",
          runtime.executable,
          ...runtime.flags,
          fixture("server.ts"),
        ],
        env: { SERVER: JSON.stringify(setup), XDG_RUNTIME_DIR: folder },
        behaviour: "run",
      });
      const find = () =>
        until("its status", () => {
          const [name] = existsSync(join(folder, "reload-self"))
            ? readdirSync(join(folder, "reload-self"))
            : [];
          return name?.endsWith(".json") && Number.parseInt(name);
        });
      const pid = await find();
      deaf.behave("crash");
      const env = { XDG_RUNTIME_DIR: folder };
      const failed = await runCli(runtime, ["reload", String(pid)], env);
      assert.equal(failed.code, 1, failed.stderr);
      deaf.behave("run");
      const done = await runCli(runtime, ["reload", String(pid)], env);
      assert.equal(done.code, 0, done.stderr);
      return await program.report("serving");
    },
  },
];

/**
 * The units of examples/systemd word for word: a real systemd starts them where they say, and a
 * deploy turns the link.
 */
import assert from "node:assert/strict";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { pinned } from "../pinned.mjs";
import { newerSystemd } from "../support/newer_systemd.ts";
import { provide, root } from "../support/package.ts";
import { temporaryFolder } from "../support/program.ts";
import { bootSystemd, type Systemd } from "../support/systemd.ts";
import { until } from "../support/wait.ts";

const units = join(root, "examples/systemd");

/** What a release has in it: its own number, and a program that says where it runs. */
const program = (number: number) => `
import { createServer } from "node:http";
import process from "node:process";
import { listen } from "@js0/reload-self";

const token = listen();
const server = createServer((_request, response) => {
  response.end(JSON.stringify({ release: ${number}, cwd: process.cwd(), pid: process.pid, generation: token.generation }));
});
await token.bind(server, { port: 8000, name: "http" });
await token.cancelled();
await token.drained();
`;

/** Puts what the units name where they name it: /usr/bin/node, and /srv/app with its releases. */
async function provideAll(
  t: TestContext,
  systemd: Systemd,
): Promise<{ deploy(number: number): void; remove(number: number): void }> {
  for (const name of readdirSync(units)) {
    cpSync(join(units, name), systemd.path(`/etc/systemd/system/${name}`));
  }
  const node = systemd.path("/usr/bin/node");
  rmSync(node, { force: true });
  writeFileSync(node, "");
  await systemd.execute(
    "mount",
    "--bind",
    pinned.node26.replace(root, "/opt/reload-self"),
    "/usr/bin/node",
  );
  const built = join(temporaryFolder(t), "built");
  mkdirSync(built); // All users may read it.
  await provide(built);
  const app = systemd.path("/srv/app");
  const release = (number: number) => join(app, "releases", String(number));
  return {
    deploy(number) {
      cpSync(built, release(number), { recursive: true, verbatimSymlinks: true });
      writeFileSync(join(release(number), "server.ts"), program(number));
      symlinkSync(`releases/${number}`, join(app, "current.new"));
      renameSync(join(app, "current.new"), join(app, "current"));
    },
    remove: (number) => rmSync(release(number), { recursive: true }),
  };
}

/** From a start to a stop, with two deploys in between. */
async function deployTwice(
  t: TestContext,
  systemd: Systemd,
  service: string,
  started: string,
): Promise<void> {
  const { deploy, remove } = await provideAll(t, systemd);
  const url = `http://127.0.0.1:${started.endsWith(".socket") ? 80 : 8000}/`;
  const ask = async () =>
    JSON.parse(await systemd.execute("curl", "--silent", "--show-error", "--fail", url));
  try {
    deploy(1);
    await systemd.execute("systemctl", "daemon-reload");
    await systemd.execute("systemctl", "start", started);
    const first = await ask();
    // It answers before systemd knows that it is ready; a reload that is asked for by then becomes
    // a part of the start.
    await until(
      "the service to be active",
      async () => await systemd.show(service, "ActiveState") === "active",
    );
    assert.deepEqual([first.release, first.cwd, first.generation], [1, "/srv/app/releases/1", 0]);
    for (const number of [2, 3]) {
      deploy(number);
      await systemd.execute("systemctl", "reload", service);
      const answer = await ask();
      assert.deepEqual([answer.release, answer.cwd, answer.generation], [
        number,
        `/srv/app/releases/${number}`,
        number - 1,
      ]);
      assert.equal(await systemd.show(service, "MainPID"), String(answer.pid));
      remove(number - 1);
    }
    await systemd.execute("systemctl", "stop", service);
    assert.equal(await systemd.show(service, "Result"), "success");
    const log = await systemd.execute("journalctl", "--unit", service, "--output=cat");
    assert.doesNotMatch(log, /reload-self:/, "nothing to complain about");
  } catch (error) {
    console.error(
      await systemd.execute(
        "journalctl",
        "--unit",
        service,
        "--output=short-monotonic",
        "--no-hostname",
        "-n",
        "60",
      ),
    );
    throw error;
  }
}

for (const name of readdirSync(units).filter((name) => name.endsWith(".service"))) {
  test(`${name}, as it is shipped: a deploy turns the link, reloads, and removes the release before`, async (t) => {
    const text = readFileSync(join(units, name), "utf8");
    const newer = text.includes("Type=notify-reload") ? await newerSystemd() : {};
    if (typeof newer === "string") return t.skip(newer);
    const systemd = await bootSystemd(t, { ...newer, ownNetwork: true });
    if (typeof systemd === "string") return t.skip(systemd);
    const socket = name.replace(/service$/, "socket");
    await deployTwice(t, systemd, name, readdirSync(units).includes(socket) ? socket : name);
  });
}

/** A real systemd runs the units of examples/systemd, with the program and the port of the test. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { test, type TestContext } from "node:test";
import type { ServerSetup } from "../fixtures/server.ts";
import { openConnection } from "../load/http1.ts";
import { describeTally, failureCount, startLoad } from "../load/load.ts";
import { cleanUp } from "../support/clean_up.ts";
import { newerSystemd } from "../support/newer_systemd.ts";
import { freePort } from "../support/port.ts";
import { fixture } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { bootSystemd, type Systemd } from "../support/systemd.ts";
import { until } from "../support/wait.ts";

const root = dirname(fileURLToPath(new URL("../../mod.ts", import.meta.url)));
/** Where a service finds this repository; see ../support/systemd.sh. */
const MOUNTED = "/opt/reload-self";
const example = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../../examples/systemd/${name}`, import.meta.url)), "utf8");

/** A unit of the examples, but with another program. */
function installUnit(
  systemd: Systemd,
  name: string,
  text: string,
  runtime: Runtime,
  setup: ServerSetup,
): void {
  const folder = systemd.path("/run/systemd/system");
  writeFileSync(`${folder}/${name}`, text);
  mkdirSync(`${folder}/${name}.d`);
  const command = [runtime.executable, ...runtime.flags, fixture("server.ts")].join(" ").replaceAll(
    root,
    MOUNTED,
  );
  writeFileSync(
    `${folder}/${name}.d/test.conf`,
    `[Unit]
After=
Wants=
StartLimitBurst=0
[Service]
WorkingDirectory=/
ExecStart=
ExecStart=${command}
Environment=BEHAVIOUR=/run/behaviour NO_COLOR=1
Environment='SERVER=${JSON.stringify(setup)}'
`,
  );
  behave(systemd, "run");
}

function behave(systemd: Systemd, behaviour: string): void {
  writeFileSync(systemd.path("/run/behaviour"), behaviour);
}

async function generationAt(port: number): Promise<string | undefined> {
  const connection = await openConnection({ port });
  connection.write("GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  const { headers } = await connection.answer();
  connection.close();
  return headers.get("x-generation");
}

test("a real systemd", async (t) => {
  const systemd = await bootSystemd(t);
  if (typeof systemd === "string") return t.skip(systemd);

  for (const runtime of oneOfEachKind) {
    await t.test(`${runtime.name}: systemctl reload under load, stop, and a new process that fails`, async (t) => {
      await reloadUnderLoad(t, systemd, runtime, "app.service");
    });

    await t.test(`${runtime.name}: a socket of systemd's is passed on, and there while the service is restarted`, async () => {
      const name = `socket-${runtime.name}`;
      const port = await freePort();
      const text = example("app-socket.service").replaceAll("app-socket", name);
      installUnit(systemd, `${name}.service`, text, runtime, {
        kind: "http",
        ports: [1],
        name: "http",
        options: { probation: 300, idleGrace: 300 },
      });
      const socket = example("app-socket.socket").replace(
        "ListenStream=80",
        `ListenStream=127.0.0.1:${port}`,
      );
      writeFileSync(`${systemd.path("/run/systemd/system")}/${name}.socket`, socket);
      await systemd.execute("systemctl", "daemon-reload");
      const load = startLoad("new", { port }, 4);
      try {
        await systemd.execute("systemctl", "start", `${name}.socket`);
        assert.equal(await generationAt(port), "0", "the first connection starts the service");
        // It answers before systemd knows that it is ready; a reload that is asked for by then
        // becomes a part of the start.
        await until(
          "the service to be active",
          async () => await systemd.show(`${name}.service`, "ActiveState") === "active",
        );
        const { tally } = load;
        const before = failureCount(tally); // Those that came before the socket was there.
        for (let i = 1; i <= 3; i++) {
          await systemd.execute("systemctl", "reload", `${name}.service`);
          assert.equal(await generationAt(port), String(i));
        }
        assert.equal(failureCount(tally), before, describeTally(tally));
        await systemd.execute("systemctl", "restart", `${name}.service`);
        assert.equal(await generationAt(port), "0");
      } catch (error) {
        await showLog(systemd, `${name}.service`);
        throw error;
      } finally {
        await load.stop();
      }
    });
  }
});

test("a real systemd that sends the signal itself: Type=notify-reload", async (t) => {
  const newer = await newerSystemd();
  if (typeof newer === "string") return t.skip(newer);
  const systemd = await bootSystemd(t, newer);
  if (typeof systemd === "string") return t.skip(systemd);

  for (const runtime of oneOfEachKind) {
    await t.test(`${runtime.name}: systemctl reload under load, stop, and a new process that fails`, async (t) => {
      await reloadUnderLoad(t, systemd, runtime, "app-notify-reload.service");
    });

    await t.test(`${runtime.name}: systemctl reload returns also when nothing can be started`, async () => {
      const unit = `app-${runtime.name}.service`;
      // systemd waits for RELOADING=1 first.
      behave(
        systemd,
        `setup ${
          JSON.stringify({
            options: { probation: 300, idleGrace: 300, command: ["/no/such/program"] },
          })
        }`,
      );
      try {
        await systemd.execute("systemctl", "start", unit);
        await systemd.execute("systemctl", "reload", unit);
        assert.match(
          await systemd.show(unit, "StatusText"),
          /the last reload failed: .*(no such executable|code 127)/,
        );
        assert.equal(await systemd.show(unit, "ActiveState"), "active");
        await systemd.execute("systemctl", "stop", unit);
      } catch (error) {
        await showLog(systemd, unit);
        throw error;
      }
    });
  }
});

/** What a unit of the examples is for, from its start to its stop. */
async function reloadUnderLoad(
  t: TestContext,
  systemd: Systemd,
  runtime: Runtime,
  file: string,
): Promise<void> {
  const unit = `app-${runtime.name}.service`;
  const port = await freePort();
  const kind = runtime.kind === "node" ? "http" : "native";
  installUnit(systemd, unit, example(file), runtime, {
    kind,
    ports: [port],
    host: "127.0.0.1",
    options: { probation: 300, idleGrace: 300 },
  });
  await systemd.execute("systemctl", "daemon-reload");
  try {
    await systemd.execute("systemctl", "start", unit);
    assert.equal(await generationAt(port), "0", "it listens when systemctl start returns");
    const loads = [startLoad("new", { port }, 4), startLoad("keep", { port }, 4)];
    cleanUp(t, () => Promise.all(loads.map((load) => load.stop())));
    let main = await systemd.show(unit, "MainPID");
    for (let i = 1; i <= 5; i++) {
      await systemd.execute("systemctl", "reload", unit);
      assert.equal(
        await generationAt(port),
        String(i),
        "systemctl reload returns when the new process is in charge",
      );
      const next = await systemd.show(unit, "MainPID");
      assert.notEqual(next, main);
      assert.equal(await systemd.show(unit, "StatusText"), `Serving as process ${next}`);
      main = next;
    }
    for (const load of loads) {
      const tally = await load.stop();
      assert.equal(failureCount(tally), 0, describeTally(tally));
    }

    behave(systemd, "crash");
    await systemd.execute("systemctl", "reload", unit);
    assert.equal(await systemd.show(unit, "ActiveState"), "active");
    assert.equal(await systemd.show(unit, "MainPID"), main);
    assert.match(
      await systemd.show(unit, "StatusText"),
      /the last reload failed: the new process .* exited with code 1/,
    );
    assert.equal(await generationAt(port), "5");

    const connection = await openConnection({ port });
    connection.write("GET /7/1000/10/150 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    await until("the answer to begin", () => connection.isAnswering);
    const [answer] = await Promise.all([
      connection.answer(),
      systemd.execute("systemctl", "stop", unit),
    ]);
    assert.equal(answer.status, 200);
    assert.equal(answer.body.length, 1000, "the request under way was answered to its end");
    assert.equal(await systemd.show(unit, "Result"), "success");
    const log = await systemd.execute("journalctl", "--unit", unit, "--output=cat");
    assert.doesNotMatch(log, /not our child|"type":"warning"|State 'stop-sigterm' timed out/);
  } catch (error) {
    await showLog(systemd, unit);
    throw error;
  }
}

async function showLog(systemd: Systemd, unit: string): Promise<void> {
  console.error(
    await systemd.execute(
      "journalctl",
      "--unit",
      unit,
      "--output=short-monotonic",
      "--no-hostname",
      "-n",
      "60",
    ),
  );
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { isPrivatePath, readListenArguments } from "../../../adapters/auto/listen_arguments.ts";
import { readOptions, readTime } from "../../../src/auto/options.ts";

test("options by the environment, with units", () => {
  const read = (variables: Record<string, string>) => readOptions((name) => variables[name]);
  assert.deepEqual(read({}), { listen: {}, level: "warn" });
  assert.deepEqual(
    read({
      RELOAD_SELF_DRAIN_TIMEOUT: "10s",
      RELOAD_SELF_READY_TIMEOUT: "2m",
      RELOAD_SELF_PROBATION: "1.5s",
      RELOAD_SELF_IDLE_GRACE: "1.5s",
      RELOAD_SELF_PID_FILE: "/run/app.pid",
      RELOAD_SELF_RELOAD_SIGNALS: "SIGUSR2, SIGHUP",
      RELOAD_SELF_SHUTDOWN_SIGNALS: "SIGTERM",
      RELOAD_SELF_STATUS: "false",
      RELOAD_SELF_LOG: "info",
    }),
    {
      listen: {
        drainTimeout: 10_000,
        readyTimeout: 120_000,
        probation: 1_500,
        idleGrace: 1_500,
        pidFile: "/run/app.pid",
        reloadSignals: ["SIGUSR2", "SIGHUP"],
        shutdownSignals: ["SIGTERM"],
        status: false,
      },
      level: "info",
    },
  );
  assert.equal(readTime("x", "250ms"), 250);
  assert.equal(readTime("x", "1h"), 3_600_000);
  assert.throws(() => read({ RELOAD_SELF_PROBATION: "10" }), {
    name: "TypeError",
    message:
      `RELOAD_SELF_PROBATION must be a time such as 500ms, 10s or 2m, not "10": write 10s or 10ms`,
  });
  for (const text of ["s", "-1s", "1 s", "1w", "99999h", "soon"]) {
    assert.throws(
      () => read({ RELOAD_SELF_DRAIN_TIMEOUT: text }),
      /RELOAD_SELF_DRAIN_TIMEOUT must be a time/,
      text,
    );
  }
  assert.throws(
    () => read({ RELOAD_SELF_STATUS: "yes" }),
    /RELOAD_SELF_STATUS must be true or false, not "yes"/,
  );
  assert.throws(
    () => read({ RELOAD_SELF_LOG: "all" }),
    /RELOAD_SELF_LOG must be info or warn or error/,
  );
  assert.throws(
    () => read({ RELOAD_SELF_RELOAD_SIGNALS: "HUP" }),
    /must be names of signals such as SIGUSR2, not "HUP"/,
  );
});

test("the arguments of listen(), in all their forms", () => {
  const optionsOf = (...args: unknown[]) => readListenArguments(args, 4711).options;
  const callback = () => {};
  assert.deepEqual(optionsOf(80), { port: 80 });
  assert.deepEqual(optionsOf("80", callback), { port: 80 });
  assert.deepEqual(optionsOf(80, "::1"), { port: 80, host: "::1" });
  assert.deepEqual(optionsOf(80, "localhost", 12, callback), {
    port: 80,
    host: "localhost",
    backlog: 12,
  });
  assert.deepEqual(optionsOf(80, 12, callback), { port: 80, backlog: 12 });
  assert.deepEqual(optionsOf("/run/app.sock"), { path: "/run/app.sock" });
  assert.deepEqual(optionsOf({ path: "/run/app.sock", readableAll: true, exclusive: true }), {
    path: "/run/app.sock",
    readableAll: true,
  });
  assert.deepEqual(
    optionsOf({ port: "80", host: "::", ipv6Only: true, reusePort: true, backlog: 1 }, callback),
    {
      port: 80,
      host: "::",
      ipv6Only: true,
      reusePort: true,
      backlog: 1,
    },
  );
  for (
    const alone of [
      [],
      [callback],
      [0],
      ["0"],
      [{ port: 0, host: "::1" }],
      [{ port: undefined }],
      [{ fd: 3 }],
      [{ _handle: {} }],
      [{ handle: {} }],
      ["\0abstract"],
      ["\\\\.\\pipe\\app"],
      ["/tmp/tsx-0/4711.pipe"],
      [-1],
      [65_536],
      [{ port: "x" }],
      [null],
    ]
  ) assert.equal(optionsOf(...alone), undefined, JSON.stringify(alone));
  assert.equal(readListenArguments([80, callback], 1).callback, callback);
  const { signal } = new AbortController();
  assert.equal(readListenArguments([{ port: 80, signal }], 1).signal, signal);
});

test("a path with the pid in its name is the process's own", () => {
  assert.equal(isPrivatePath("/tmp/app-12.sock", 12), true);
  assert.equal(isPrivatePath("/tmp/app-123.sock", 12), false);
  assert.equal(isPrivatePath("/run/app.sock", 12), false);
});

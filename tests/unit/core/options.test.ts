import assert from "node:assert/strict";
import { test } from "node:test";
import { checkListenOptions, type ListenOptions, sameOptions } from "../../../src/core/options.ts";
import { createReporter } from "../../../src/core/report.ts";
import { createWorld } from "../../support/world.ts";

const { adapter } = createWorld().begin();

const wrong: [options: unknown, named: RegExp][] = [
  [null, /options must be an object/],
  [1, /options must be an object/],
  [{ timeout: 1 }, /unknown option timeout/],
  [{ reloadSignals: "SIGHUP" }, /reloadSignals must be an array/],
  [{ reloadSignals: [1] }, /reloadSignals must be an array/],
  [{ reloadSignals: ["SIGFOO"] }, /reloadSignals: "SIGFOO" is no signal .* SIGHUP/],
  [{ reloadSignals: ["SIGBREAK"] }, /reloadSignals: "SIGBREAK" is no signal/],
  [{ reloadSignals: ["toString"] }, /reloadSignals: "toString" is no signal/],
  [{ shutdownSignals: ["SIGKILL"] }, /shutdownSignals: no process can handle SIGKILL/],
  [{ reloadSignals: ["SIGHUP", "SIGHUP"] }, /reloadSignals: SIGHUP is named twice/],
  [
    { reloadSignals: ["SIGINT"], shutdownSignals: ["SIGINT"] },
    /shutdownSignals: SIGINT is named twice/,
  ],
  [{ ready: "yes" }, /ready must be/],
  [{ ready: null }, /ready must be/],
  [{ ready: () => {} }, /ready must be/],
  ...[0, -1, NaN, Infinity, 2 ** 40, 2 ** 31, "5", null].map((readyTimeout): [unknown, RegExp] => [
    { readyTimeout },
    /readyTimeout must be a number of milliseconds/,
  ]),
  ...["health", "ftp://127.0.0.1/", "/health", "", 8000, null].map((check): [unknown, RegExp] => [
    { check },
    /check must be a function, or an address such as/,
  ]),
  [{ checkTimeout: 0 }, /checkTimeout must be a number of milliseconds/],
  [{ signal: new AbortController() }, /signal must be an AbortSignal/],
  [{ env: "A=1" }, /env must be an object/],
  [{ env: ["A=1"] }, /env must be an object/],
  [{ env: { A: 1 } }, /env\.A must be a string/],
  [{ env: { "A=B": "1" } }, /env: "A=B" cannot be the name/],
  [{ env: { A: "\0" } }, /env\.A must not contain a NUL/],
  [{ command: "node" }, /command must be an executable and its arguments/],
  [{ command: [] }, /command must be/],
  [{ command: [""] }, /command must be/],
  [{ command: ["node", 1] }, /command must be a string/],
  [{ command: ["node", "a\0b"] }, /command must not contain a NUL/],
  [{ logger: console.log }, /logger must be/],
  [{ logger: { info() {} } }, /logger must be/],
  [{ logger: null }, /logger must be/],
  [{ onEvent: {} }, /onEvent must be a function/],
];
for (const [options, named] of wrong) {
  test(`wrong: ${JSON.stringify(options)} ${named}`, () => {
    assert.throws(() => checkListenOptions(options as ListenOptions, adapter), {
      name: "TypeError",
      message: named,
    });
  });
}

test("right options, and what makes two calls the same", () => {
  const options: ListenOptions = {
    reloadSignals: ["SIGHUP"],
    shutdownSignals: [],
    ready: Promise.resolve(),
    readyTimeout: 2 ** 31 - 1,
    signal: new AbortController().signal,
    env: { A: "1", B: undefined },
    command: ["node", ""],
    logger: console,
    onEvent() {},
    adapter,
  };
  checkListenOptions(options, adapter);
  assert.ok(
    sameOptions(options, { ...options, reloadSignals: ["SIGHUP"], env: { A: "1", B: undefined } }),
  );
  for (
    const other of [
      { reloadSignals: [] },
      { env: { A: "2", B: undefined } },
      { logger: undefined },
      { ready: "auto" as const },
    ]
  ) {
    assert.ok(!sameOptions(options, { ...options, ...other }));
  }
});

test("a logger or an onEvent that throws does no harm", () => {
  const lines: string[] = [];
  const throws = () => {
    throw new Error("no disk");
  };
  const event = { type: "reload-pass-on", pid: 2 } as const;
  createReporter({ pid: 1 }, () => false, {
    logger: { info: throws, warn: throws, error: throws },
    onEvent: throws,
  })(event);
  createReporter({ pid: 1 }, () => false, {
    logger: { info() {}, warn() {}, error: (line) => lines.push(line) },
    onEvent: throws,
  })(
    event,
  );
  assert.deepEqual(lines, ["reload-self: process 1: onEvent threw on reload-pass-on: no disk"]);
});

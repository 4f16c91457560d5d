/** What of Deno cannot be had here: compiled programs, and other systems than Linux. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createDenoAdapter } from "../../../adapters/deno/adapter.ts";
import type { DenoNamespace } from "../../../adapters/deno/namespace.ts";
import { detectAdapter } from "../../../adapters/detect.ts";
import type { PermissionState } from "../../../adapters/deno/permissions.ts";
import { isElected } from "../../../adapters/deno/threads.ts";

interface Facts {
  os?: string;
  standalone?: boolean;
  /** Permissions that are not granted, by name. */
  states?: Record<string, PermissionState>;
}

function fakeDeno({ os = "linux", standalone = false, states = {} }: Facts): DenoNamespace {
  return {
    pid: 1,
    args: ["an argument"],
    mainModule: "file:///srv/a%20b.ts",
    build: { os, standalone },
    env: { get: () => undefined, set() {}, delete() {}, toObject: () => ({}) },
    permissions: {
      querySync: ({ name }: { name: string }) => states[name] ?? { state: "granted" },
    },
    Command: class {
      constructor() {
        throw new Error("asked a helper");
      }
    },
    execPath: () => "/nowhere/app",
    cwd: () => "/",
    realPathSync: (path: string) => path,
    readTextFileSync() {
      throw new Error("no /proc");
    },
    statSync: () => ({ isFile: true, isDirectory: true, mode: 0o755 }),
    addSignalListener() {},
  } as unknown as DenoNamespace;
}

/**
 * Starts the program again in a Deno like that, and returns the error that it fails with: there is
 * no such executable.
 */
async function startError(facts: Facts): Promise<Error> {
  const adapter = await createDenoAdapter(fakeDeno(facts), true).loadRest();
  return await adapter.start({
    env: {},
    generation: 1,
    how: "plain",
    sendsSockets: false,
    sendsDescriptors: false,
    native: undefined,
    signal: new AbortController().signal,
  }).then(
    () => assert.fail("it was started"),
    (error) => error,
  );
}

const restricted = { read: { state: "prompt" } };
const missing = /^\/nowhere\/app in \/ cannot be started: there is no such executable/;

test("a compiled program is started by its own path, never asked as if it were Deno", async () => {
  for (const os of ["linux", "darwin"]) {
    for (const states of [{}, restricted]) {
      assert.match((await startError({ os, standalone: true, states })).message, missing);
    }
  }
});

test("on Linux a restricted program asks a helper, an unrestricted one does not", async () => {
  assert.equal((await startError({ states: restricted })).message, "asked a helper");
  assert.match((await startError({})).message, /process\.title overwrote it/);
});

test("elsewhere the command line is rebuilt, unless a permission is restricted to values", async () => {
  assert.match((await startError({ os: "darwin" })).message, missing);
  assert.match((await startError({ os: "darwin", states: restricted })).message, missing);
  const partial = { read: { state: "granted", partial: true } };
  assert.match(
    (await startError({ os: "darwin", states: partial })).message,
    /on darwin Deno does not say .* `command`/,
  );
});

test("start-up looks at nothing that Deno loads at the first look", () => {
  const slow = { get: () => assert.fail("looked at") };
  const deno = Object.defineProperty(fakeDeno({}), "Command", slow);
  const globals = Object.defineProperties({ Deno: deno }, {
    process: slow,
    navigator: slow,
    Bun: slow,
  });
  const adapter = detectAdapter(globals);
  assert.equal(adapter.runtime, "Deno");
  assert.equal(adapter.canReload, true);
  assert.equal(adapter.predecessor(), undefined);
});

test("of the threads of a process one is elected, and nothing but its name is left", () => {
  const variables = new Map<string, string>();
  const env = {
    get: (name: string) => variables.get(name),
    set: (name: string, value: string) => void variables.set(name, value),
    delete: (name: string) => void variables.delete(name),
    toObject: () => Object.fromEntries(variables),
  };
  assert.deepEqual(["a", "b", "c"].map((id) => isElected(env, 7, id)), [true, false, false]);
  assert.deepEqual(env.toObject(), { RELOAD_SELF_THREAD: "7:a" });
  assert.equal(
    isElected(env, 8, "d"),
    true,
    "the name came with the environment from another process",
  );
  env.set("RELOAD_SELF_THREAD_CHOOSING_8_e", "1");
  assert.equal(
    isElected(env, 9, "f"),
    true,
    "a thread of another process was choosing when this one was started",
  );
});

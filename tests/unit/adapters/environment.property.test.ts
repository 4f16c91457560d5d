import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  handshake,
  type ParentCheck,
  parseGeneration,
  supervision,
  takeHandshake,
} from "../../../src/protocol/handshake.ts";
import { permissionFlags, PERMISSIONS } from "../../../adapters/deno/permissions.ts";
import {
  type Environment,
  parseEnviron,
  successorEnvironment,
} from "../../../adapters/shared/environment.ts";

const name = fc.stringMatching(/^[A-C]$/); // Few names, so that they meet.
const environment: fc.Arbitrary<Environment> = fc.dictionary(name, fc.constantFrom("", "1", "2"), {
  noNullPrototype: true,
});

test("an environment is read as the kernel shows it", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.stringMatching(/^[^=\0]+$/), fc.stringMatching(/^[^\0]*$/), {
        noNullPrototype: true,
      }),
      (env) => {
        const text = Object.entries(env).map(([name, value]) => `${name}=${value}\0`).join("");
        assert.deepEqual(parseEnviron(text), env);
      },
    ),
  );
  assert.deepEqual(parseEnviron("A=1\0nonsense\0=::=x\0A=2\0"), { A: "1" });
});

test("a new process gets what the operator gave, and what the program changed", () => {
  fc.assert(fc.property(environment, environment, environment, (started, fromFile, changes) => {
    const loaded = { ...fromFile, ...started }; // A runtime does not replace what is set already.
    const current = { ...loaded, ...changes };
    const env = successorEnvironment({ started, loaded, current });
    for (const name of ["A", "B", "C"]) {
      const expected = current[name] !== loaded[name] ? current[name] : started[name];
      assert.equal(env[name], expected);
    }
  }));
  assert.deepEqual(
    successorEnvironment({
      started: { A: "1", B: "1" },
      loaded: { A: "1", B: "1" },
      current: { B: "1" },
    }),
    {
      B: "1",
    },
    "a variable that was removed stays so",
  );
  assert.deepEqual(successorEnvironment({ started: undefined, loaded: {}, current: { A: "1" } }), {
    A: "1",
  });
});

test("what belongs to one start does not reach the next", () => {
  const env = {
    ...handshake(1, 2),
    ...supervision({ folder: "/run/x", instances: 2 }),
    RELOAD_SELF_CHANNEL: "/run/y",
    RELOAD_SELF_GUARD: "3",
    NODE_CHANNEL_FD: "3",
    NODE_CHANNEL_SERIALIZATION_MODE: "json",
    WATCH_REPORT_DEPENDENCIES: "1",
    RELOAD_SELF_THREAD: "7:a",
    RELOAD_SELF_THREAD_CHOOSING_7_b: "1",
  };
  assert.deepEqual(successorEnvironment({ started: env, loaded: env, current: env }), {});
  assert.deepEqual(successorEnvironment({ started: undefined, loaded: env, current: env }), {});
});

const family: ParentCheck = { parent: 7, isAlive: (pid) => pid !== 8 };

test("a handshake is meant for the child of one process, and for an orphan", () => {
  const arrivalOf = (variables: Record<string, string>, isAlive = family.isAlive) => {
    const env = new Map(Object.entries({ RELOAD_SELF_CHANNEL: "/run/y", ...variables }));
    const arrival = takeHandshake(env, { ...family, isAlive });
    assert.equal(env.size, 0, "all of it is taken, also what is meant for another process");
    return [arrival.generation, arrival.channelPath];
  };
  const meant = [5, "/run/y"];
  const stranger = [undefined, undefined];
  assert.deepEqual(arrivalOf(handshake(5, 7)), meant);
  assert.deepEqual(arrivalOf(handshake(5, 6)), stranger, "its parent lives, and is not ours");
  assert.deepEqual(arrivalOf(handshake(5, 6), () => undefined), stranger, "nobody knows");
  assert.deepEqual(arrivalOf(handshake(5, 8)), meant, "its parent is gone");
  assert.deepEqual(
    arrivalOf(handshake(5, undefined)),
    meant,
    "an earlier version, or a command of the application's",
  );
  assert.deepEqual(
    arrivalOf({ ...handshake(5, undefined), RELOAD_SELF_PARENT: "4:6" }),
    meant,
    "left over from another generation",
  );
});

test("the handshake is taken once, and only a right one is believed", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 1e9 }), (generation) => {
    const env = new Map(Object.entries(handshake(generation, 7)));
    assert.equal(takeHandshake(env, family).generation, generation);
    assert.equal(env.size, 0);
    assert.equal(takeHandshake(env, family).generation, undefined);
  }));
  fc.assert(fc.property(fc.string(), (value) => {
    if (!/^1:[1-9]\d*$/.test(value)) assert.equal(parseGeneration(value), undefined);
  }));
  for (
    const value of [
      "",
      "1",
      "1:0",
      "1:-1",
      "1:01",
      "0:1",
      "2:1",
      "1:1 ",
      "1:1e3",
      " 1:1",
      "1:9999999999999999",
    ]
  ) {
    assert.equal(parseGeneration(value), undefined, value);
  }
});

test("Deno's permissions are rebuilt, never wider", () => {
  const state = fc.record({
    state: fc.constantFrom("granted", "prompt", "denied"),
    partial: fc.boolean(),
  });
  const states = fc.record(
    Object.fromEntries(PERMISSIONS.map((name) => [name, state])) as Record<
      (typeof PERMISSIONS)[number],
      typeof state
    >,
  );
  fc.assert(fc.property(states, (states) => {
    const flags = permissionFlags(states);
    if (PERMISSIONS.some((name) => states[name].partial)) return assert.equal(flags, undefined);
    for (const name of PERMISSIONS) {
      const granted = flags?.includes(`--allow-${name}`) || flags?.includes("--allow-all");
      assert.equal(granted, states[name].state === "granted");
      if (states[name].state === "denied") assert.ok(flags?.includes(`--deny-${name}`));
    }
  }));
});

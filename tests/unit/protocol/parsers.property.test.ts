/**
 * Every parser of src/protocol gets anything. Nothing throws, and what a parser returns is what its
 * type says. A check in tests/checks makes sure that no parser is missing here.
 */
import assert from "node:assert/strict";
import { test as testNow } from "node:test";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { fromBase64, parseSession } from "../../../src/protocol/connections.ts";
import { parseGeneration, parseOffered, takeHandshake } from "../../../src/protocol/handshake.ts";
import { parseFromInstance, parseToInstance } from "../../../src/protocol/instances.ts";
import { parsePid } from "../../../src/protocol/pid_file.ts";
import { pack, parseFromPredecessor, parseFromSuccessor } from "../../../src/protocol/reload.ts";
import { parseInCharge } from "../../../src/protocol/run.ts";
import * as sockets from "../../../src/protocol/sockets.ts";
import { parseOrigin, parseStatus } from "../../../src/protocol/status.ts";

/** A test that lets what it reports be written: Node ends right after the last one. */
function test(name: string, run: () => void): void {
  testNow(name, async () => {
    run();
    await setImmediate();
  });
}

/** Whether a value is what a type says. */
type Is = (value: unknown) => boolean;

const text: Is = (value) => typeof value === "string";
const flag: Is = (value) => typeof value === "boolean";
const whole: Is = (value) => Number.isSafeInteger(value);
const count: Is = (value) => whole(value) && Number(value) >= 0;
const pid: Is = (value) => count(value) && value !== 0;
const bytes: Is = (value) => value instanceof Uint8Array;
const anything: Is = () => true;
const only = (...wanted: unknown[]): Is => (value) => wanted.includes(value);
const maybe = (of: Is): Is => (value) => value === undefined || of(value);
const list = (of: Is): Is => (value) => Array.isArray(value) && value.every(of);
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const record = (of: Is): Is => (value) => isObject(value) && Object.values(value).every(of);
const pair = (first: Is, second: Is): Is => (value) =>
  Array.isArray(value) && value.length === 2 && first(value[0]) && second(value[1]);
/** An object with these members and no others. */
const shape = (members: Record<string, Is>): Is => (value) =>
  isObject(value) && Object.keys(value).every((key) => key in members) &&
  Object.entries(members).every(([key, is]) => is(value[key]));
const ofType = (type: string, members: Record<string, Is> = {}): Is =>
  shape({ type: only(type), ...members });

/** A parser, and for each kind of result what that is, and a message that gives it. */
interface Parser {
  readonly name: string;
  parse(input: unknown): unknown;
  readonly results: readonly (readonly [is: Is, example: unknown])[];
}

const parser = (
  name: string,
  parse: (input: never) => unknown,
  ...results: Parser["results"]
): Parser => ({ name, parse: parse as Parser["parse"], results });

const address = shape({ address: text, family: text, port: pid });
const marked = pack({ type: "ready" }) as object;
const bound = { key: "*:80", address: { address: "::", family: "IPv6", port: 80 } };
const data = [
  ofType("data", { name: text, data: record(anything) }),
  { ...marked, type: "data", name: "systemd", data: {} },
] as const;
const typed = (type: string) => [ofType(type), { ...marked, type }] as const;

/** What comes over a channel. */
const messages: readonly Parser[] = [
  parser(
    "parseFromSuccessor",
    parseFromSuccessor,
    data,
    ...["ready", "stopping"].map(typed),
    [ofType("hello", { pid, abilities: maybe(count) }), { ...marked, type: "hello", pid: 1 }],
    [ofType("alive", { answer: maybe(count) }), { ...marked, type: "alive", answer: 0 }],
    [ofType("failed", { message: text }), { ...marked, type: "failed", message: "" }],
    [ofType("in-charge", { check: maybe(only(true)) }), { ...marked, type: "in-charge" }],
    [ofType("checked", { error: maybe(text) }), { ...marked, type: "checked", error: "" }],
  ),
  parser(
    "parseFromPredecessor",
    parseFromPredecessor,
    data,
    ...["offered", "commit", "check", "reload"].map(typed),
    [ofType("ask", { number: count }), { ...marked, type: "ask", number: 1 }],
    [ofType("revoke", { pid, generation: count }), {
      ...marked,
      type: "revoke",
      pid: 1,
      generation: 0,
    }],
    [ofType("over", { reload: flag }), { ...marked, type: "over" }],
    [ofType("shutdown", { signal: text }), { ...marked, type: "shutdown", signal: "SIGINT" }],
  ),
  parser(
    "parseFromInstance",
    parseFromInstance,
    ...["up", "ready", "passed"].map(typed),
    [ofType("reloading", { ordered: flag, passes: flag }), {
      type: "reloading",
      ordered: true,
      passes: true,
    }],
    [ofType("failed", { message: text }), { type: "failed", message: "" }],
    [ofType("leaving", { positions: record(list(whole)) }), {
      type: "leaving",
      positions: { "*:80": [1] },
    }],
  ),
  parser(
    "parseToInstance",
    parseToInstance,
    ...["start", "keep"].map(typed),
    [ofType("go", { passes: flag }), { type: "go", passes: true }],
    [ofType("refuse", { message: text }), { type: "refuse", message: "" }],
    [ofType("leave", { address: text }), { type: "leave", address: "*:80" }],
  ),
  parser(
    "parseBoundFromPredecessor",
    sockets.parseBoundFromPredecessor,
    [shape({ sockets: list(shape({ key: text, address: maybe(address) })) }), { sockets: [bound] }],
    [shape({ key: text, hold: only(true), number: maybe(whole) }), {
      key: "*:80",
      hold: true,
      number: 1,
    }],
    [shape({ key: text, isFree: flag }), { key: "*:80", isFree: true }],
    [shape({ key: text, back: only(true) }), { key: "*:80", back: true }],
    [shape({ key: text, close: only(true) }), { key: "*:80", close: true }],
  ),
  parser(
    "parseBoundFromSuccessor",
    sockets.parseBoundFromSuccessor,
    [shape({ read: only(true) }), { read: true }],
    [shape({ claim: text, holds: flag, takes: flag }), { claim: "*:80", holds: true, takes: true }],
    [shape({ unclaim: text }), { unclaim: "*:80" }],
    [shape({ holds: text }), { holds: "*:80" }],
    [shape({ done: only(true), error: maybe(text) }), { done: true, error: "*:80" }],
  ),
  parser("parseUnixFromPredecessor", sockets.parseUnixFromPredecessor, [
    shape({ paths: list(text), pid: maybe(whole) }),
    { paths: ["/run/app.sock"], pid: 1 },
  ]),
  parser("parseUnixFromSuccessor", sockets.parseUnixFromSuccessor, [shape({ made: text }), {
    made: "/run/app.sock",
  }]),
  parser("parseSocketClaim", sockets.parseSocketClaim, [shape({ claim: text }), { claim: "*:80" }]),
  parser("parseSentSocket", sockets.parseSentSocket, [
    shape({ socket: text, number: maybe(whole) }),
    { socket: "*:80", number: 1 },
  ]),
  parser(
    "parseSteering",
    sockets.parseSteering,
    [shape({ addresses: list(text) }), { addresses: ["*:80"] }],
    [shape({ complete: only(true) }), { complete: true }],
    [shape({ positions: list(pair(text, list(whole))) }), { positions: [["*:80", [1]]] }],
    [shape({ isLast: flag }), { isLast: false }],
  ),
  parser("parseUnbound", sockets.parseUnbound, [shape({ mustListen: only(true) }), {
    mustListen: true,
  }]),
  parser("parseOrigin", parseOrigin, [shape({ pid, number: count, milliseconds: count }), {
    pid: 1,
    number: 1,
    milliseconds: 1,
  }]),
  parser("parseSession", (input) => parseSession(Object(input)), [bytes, { bytes: "AAAA" }], [
    anything,
    { session: [1] },
  ]),
  parser("fromBase64", fromBase64, [bytes, "AAAA"]),
];

const status = {
  version: 1,
  pid: 1,
  startTime: "1",
  generation: 1,
  runtime: "Node",
  since: 1,
  state: "serving",
  signal: "SIGHUP",
  reloads: 1,
  last: { number: 1, milliseconds: 1, error: "x", failed: 1, output: ["x"] },
  from: { pid: 1, number: 1, milliseconds: 1 },
};
const offered = (kind: "server" | "datagrams") => [{ kind, key: "*:80", reported: {}, place: {} }];
const isOffered = list(pair(text, shape({ reported: record(anything), place: anything })));
const env = {
  RELOAD_SELF: "1:1",
  RELOAD_SELF_PARENT: "1:1",
  RELOAD_SELF_CHANNEL: "/run/channel",
  RELOAD_SELF_DESCRIPTORS: "3:1",
  RELOAD_SELF_NATIVE: "[]",
  RELOAD_SELF_RUN: "/run/app",
  RELOAD_SELF_INSTANCES: "2",
  RELOAD_SELF_GUARD: "1",
  RELOAD_SELF_RUN_CHECK: "1000 http://localhost/",
};

/** Takes the handshake out of an environment, which has texts only. */
function handshakeIn(input: unknown): unknown {
  const given = Object.entries(isObject(input) ? input : {}).filter(([, value]) => text(value));
  const left = new Map(given as [string, string][]);
  const { takeRest, ...taken } = takeHandshake(
    { get: (name) => left.get(name), delete: (name) => void left.delete(name) },
    { parent: 1, isAlive: () => false },
  );
  takeRest();
  assert.ok([...left.keys()].every((name) => !Object.hasOwn(env, name)), "nothing is left of it");
  return taken;
}

/** What comes with a start. */
const starts: readonly Parser[] = [
  parser("takeHandshake", handshakeIn, [
    shape({
      generation: maybe(pid),
      channelPath: maybe(text),
      descriptors: maybe(text),
      native: maybe(text),
      supervisor: maybe(shape({
        folder: text,
        instances: (value) => typeof value === "number",
        guard: maybe(pid),
        check: maybe(shape({ timeout: count, url: text })),
      })),
    }),
    env,
  ]),
];

/** What comes from a file, or from the environment. Examples that are no texts become JSON. */
const texts: readonly Parser[] = [
  parser("parsePid", parsePid, [pid, "4711\n"]),
  parser("parseInCharge", parseInCharge, [shape({ pid, guard: pid }), "4711 4712\n"]),
  parser("parseGeneration", parseGeneration, [pid, "1:1"]),
  parser("parseStatus", parseStatus, [
    shape({ version: only(1), pid, startTime: maybe(text), supervises: pid }),
    { version: 1, pid: 1, startTime: "1", supervises: 2 },
  ], [
    shape({
      version: only(1),
      pid,
      startTime: maybe(text),
      generation: count,
      runtime: text,
      since: count,
      state: only("starting", "serving", "reloading", "retired", "shutting down"),
      signal: maybe(text),
      reloads: count,
      last: maybe(shape({
        number: count,
        milliseconds: count,
        pid: maybe(pid),
        error: maybe(text),
        failed: maybe(pid),
        output: maybe(list(text)),
      })),
      from: maybe(shape({ pid, number: count, milliseconds: count })),
    }),
    status,
  ]),
  parser("parseOffered", (input) => [...parseOffered(input, "server")], [
    isOffered,
    offered("server"),
  ]),
  parser("parseOffered", (input) => [...parseOffered(input, "datagrams")], [
    isOffered,
    offered("datagrams"),
  ]),
];

function nested(depth: number): unknown[] {
  let [arrays, objects]: unknown[] = [[], {}];
  for (let i = 0; i < depth; i++) [arrays, objects] = [[arrays], { key: objects }];
  return [arrays, objects];
}

/** Values that no one expects, among them some from which no text can be made. */
const value = fc.oneof(
  fc.constantFrom<unknown>(undefined, null, true, false, 0, -1, 1.5, NaN, 2 ** 53, 1n, "", "x"),
  fc.constantFrom<unknown>({ toString: 1, valueOf: 1 }, Object.create(null), Symbol("x")),
  fc.anything({ maxDepth: 2, withNullPrototype: true, withBigInt: true, withTypedArray: true }),
);

/** The examples of a parser with some other members, and anything else. */
function inputsFor({ results }: Parser): fc.Arbitrary<unknown> {
  const examples = results.map(([, example]) => example);
  const members = examples.flatMap((example) =>
    text(example) ? [] : Object.keys(unlisted(example))
  );
  const others = fc.dictionary(fc.constantFrom("x", ...members), value, { maxKeys: 3 });
  const nearly = fc.tuple(fc.constantFrom(...examples), others).map(([example, others]) =>
    text(example) ? example : withMembers(example, others)
  );
  return fc.oneof({ weight: 1, arbitrary: value }, { weight: 4, arbitrary: nearly });
}

/** An example, or the first one of a list. */
const unlisted = (example: unknown) => Object(Array.isArray(example) ? example[0] : example);

function withMembers(example: unknown, others: object): unknown {
  const one = { ...unlisted(example), ...others };
  return Array.isArray(example) ? [one] : one;
}

/** The text of an input, as it would be in a file. */
function textOf(input: unknown): string {
  if (typeof input === "string") return input;
  try {
    return JSON.stringify(input) ?? "";
  } catch {
    return "{}"; // JSON does not have it.
  }
}

function check({ name, parse, results }: Parser, input: unknown): void {
  const result = parse(input);
  assert.ok(result === undefined || results.some(([is]) => is(result)), name);
}

/** Every example with each of its members replaced. */
function checkWith(parser: Parser, value: unknown, convert: (input: unknown) => unknown): void {
  for (const [, example] of parser.results) {
    if (text(example)) continue;
    for (const key of Object.keys(unlisted(example))) {
      check(parser, convert(withMembers(example, { [key]: value })));
    }
  }
}

const groups = [[messages, (input: unknown) => input], [starts, (input: unknown) => input], [
  texts,
  textOf,
]] as const;
for (const [parsers, convert] of groups) {
  for (const parser of parsers) {
    test(`${parser.name}: each message is understood, and anything else makes nothing throw`, () => {
      for (const [is, example] of parser.results) {
        assert.ok(is(parser.parse(convert(example))), textOf(example));
      }
      const property = fc.property(inputsFor(parser), (input) => check(parser, convert(input)));
      fc.assert(property, { numRuns: 500 });
    });
  }
}

test("what is nested deeply makes no parser throw", () => {
  const values = nested(100_000);
  for (const parser of [...messages, ...starts]) {
    for (const value of values) {
      check(parser, value);
      checkWith(parser, value, (input) => input);
    }
  }
  const inTexts = ["[".repeat(100_000) + "]".repeat(100_000), '{"key":'.repeat(100_000)];
  for (const parser of texts) {
    for (const value of inTexts) {
      check(parser, value);
      checkWith(parser, "?", (input) => textOf(input).replace('"?"', value));
    }
  }
});

// A test each: Bun gives a test five seconds.
for (const parser of [...messages, ...starts]) {
  test(`${parser.name}: texts of 64 MiB make nothing throw`, () => {
    const large = "x".repeat(2 ** 26);
    check(parser, large);
    checkWith(parser, large, (input) => input);
  });
}
for (const parser of texts) {
  test(`${parser.name}: texts of 64 MiB make nothing throw`, () => {
    for (const character of ["x", " ", "1"]) check(parser, character.repeat(2 ** 26));
    if (parser.name !== "parseStatus") return;
    check(parser, JSON.stringify({ ...status, runtime: "x".repeat(2 ** 26) }));
  });
}

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { pack, parseFromPredecessor, parseFromSuccessor } from "../../core/messages.ts";

const overTheChannel = (message: unknown) => JSON.parse(JSON.stringify(message));
const data = fc.record({ type: fc.constant("data" as const), name: fc.string(), data: fc.jsonValue() });

test("every message arrives as it was sent", () => {
  const fromSuccessor = fc.oneof(
    fc.record({ type: fc.constant("hello" as const), pid: fc.integer({ min: 1, max: 2 ** 31 }) }),
    fc.record({ type: fc.constant("failed" as const), message: fc.string() }),
    fc.constantFrom({ type: "ready" as const }, { type: "in-charge" as const }, { type: "alive" as const }),
    data,
  );
  fc.assert(fc.property(fromSuccessor, (message) => {
    assert.deepEqual(parseFromSuccessor(overTheChannel(pack(message))), overTheChannel(message));
  }));
  const fromPredecessor = fc.oneof(
    fc.constantFrom({ type: "commit" as const }, { type: "reload" as const }),
    fc.record({ type: fc.constant("over" as const), reload: fc.boolean() }),
    data,
  );
  fc.assert(fc.property(fromPredecessor, (message) => {
    assert.deepEqual(parseFromPredecessor(overTheChannel(pack(message))), overTheChannel(message));
  }));
});

test("nothing else is understood, and nothing makes the parsers throw", () => {
  fc.assert(fc.property(fc.anything({ withNullPrototype: true, withBigInt: true }), (raw) => {
    assert.equal(parseFromSuccessor(raw), undefined);
    assert.equal(parseFromPredecessor(raw), undefined);
  }));
  const { type: _, ...mark } = pack({ type: "ready" }) as Record<string, unknown>;
  const nearly = fc.record({ type: fc.anything(), pid: fc.anything(), name: fc.anything(), message: fc.anything() });
  fc.assert(fc.property(nearly, (fields) => {
    const raw = { ...mark, ...fields };
    const understood = parseFromSuccessor(raw);
    if (understood?.type === "hello") assert.ok(Number.isSafeInteger(understood.pid) && understood.pid > 0);
    else assert.equal(understood, undefined);
    assert.equal(parseFromPredecessor(raw), undefined);
  }));
});

/**
 * Where a message of a WebSocket ends, known by counting: never in the middle of a frame, whatever
 * comes in which pieces.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Counts, frameBytes, isAtBoundary } from "../../../src/linux/web_socket_boundary.ts";
import { numberOf } from "../../support/number_of.ts";

const RUNS = numberOf("RUNS", 1_000);

/** What a client sends, and what the runtime makes of it. */
type Frame =
  /** A message in so many fragments. */
  | { kind: "message"; payload: number; fragments: number }
  | { kind: "ping"; payload: number }
  /** The application sends something. */
  | { kind: "answer"; payload: number };

const payload = fc.oneof(fc.nat({ max: 200 }), fc.constantFrom(125, 126, 65_535, 65_536));
const frames = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant("message" as const),
      payload,
      fragments: fc.constantFrom(1, 1, 1, 2, 3),
    }),
    fc.record({ kind: fc.constant("ping" as const), payload: fc.nat({ max: 125 }) }),
    fc.record({ kind: fc.constant("answer" as const), payload }),
  ),
  { maxLength: 12 },
);

/**
 * The bytes on the wire of one frame from the client: those of each part that the runtime reads as
 * a whole.
 */
function partsOf(frame: Frame): number[] {
  if (frame.kind === "answer") return [];
  if (frame.kind === "ping") return [frameBytes(frame.payload, true)];
  const size = Math.floor(frame.payload / frame.fragments);
  const sizes = Array.from(
    { length: frame.fragments },
    (_, i) => i > 0 ? size : frame.payload - size * (frame.fragments - 1),
  );
  return sizes.map((size) => frameBytes(size, true));
}

/**
 * Reads frames in pieces, and asks after each whether the connection is between two messages.
 *
 * @param isVisible Whether the application is told of pings.
 */
function play(
  all: readonly Frame[],
  pieces: readonly number[],
  isVisible: boolean,
  sinceReceived: number,
) {
  const counts: Counts = { read: 100, written: 50, received: 0, sent: 0 };
  let read = 100;
  let written = 50;
  const answers: { isBetween: boolean; answer: boolean; hasFragments: boolean }[] = [];
  let hasFragments = false;
  let turn = 0;
  const ask = (isBetween: boolean) => {
    const state = { read, unread: 0, written, unsent: 0, sinceReceived, sinceSent: 0 };
    answers.push({ isBetween, answer: isAtBoundary(counts, state, !isVisible), hasFragments });
  };
  ask(true);
  for (const frame of all) {
    const parts = partsOf(frame);
    for (const [i, part] of parts.entries()) {
      for (let left = part; left > 0;) {
        const piece = Math.min(left, pieces[turn++ % pieces.length] as number);
        read += piece;
        left -= piece;
        if (left > 0 || i < parts.length - 1) ask(false);
      }
    }
    if (frame.kind === "message") {
      counts.received += frameBytes(frame.payload, true);
      if (frame.fragments > 1) hasFragments = true;
    } else if (frame.kind === "answer") {
      written += frameBytes(frame.payload, false);
      if (!isVisible) counts.sent += frameBytes(frame.payload, false);
    } else {
      written += frameBytes(frame.payload, false); // The pong.
      if (isVisible) counts.received += frameBytes(frame.payload, true);
    }
    ask(true);
  }
  return answers;
}

const pieces = fc.array(fc.constantFrom(1, 2, 3, 4, 5, 6, 7, 8, 50, 1_000, 100_000), {
  minLength: 1,
  maxLength: 8,
});

test("where the application is told of pings, a message is never torn, and its end is always seen", () => {
  fc.assert(
    fc.property(frames, pieces, (all, pieces) => {
      for (const { isBetween, answer, hasFragments } of play(all, pieces, true, 0)) {
        if (!isBetween) assert.equal(answer, false);
        else if (!hasFragments) assert.equal(answer, true); // The headers of fragments are not counted: such a connection stays.
      }
    }),
    { numRuns: RUNS },
  );
});

test("where it is not, a message is never torn while something comes", () => {
  fc.assert(
    fc.property(frames, pieces, (all, pieces) => {
      for (const { isBetween, answer } of play(all, pieces, false, 0)) {
        if (!isBetween) assert.equal(answer, false);
      }
    }),
    { numRuns: RUNS },
  );
});

test("where it is not, pings are no obstacle to a client that says nothing for a second", () => {
  fc.assert(
    fc.property(frames, (all) => {
      for (const { isBetween, answer, hasFragments } of play(all, [100_000], false, 1_000)) {
        if (isBetween && !hasFragments) assert.equal(answer, true);
      }
    }),
    { numRuns: RUNS },
  );
});

/** Where a socket gets lost that is read in one piece with another message, it travels alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Channel } from "../../../src/core/adapter.ts";
import { parseFromPredecessor } from "../../../src/protocol/reload.ts";
import { createOutbox } from "../../../src/reload/outbox.ts";

/**
 * A channel whose other side reads all that waits at once, and loses a socket that is not alone. As
 * on Deno, what follows a socket is not sent before that was read.
 */
function createScene(handlesTravelAlone: boolean) {
  let unread: { raw: unknown; handle: unknown }[] = [];
  let later: typeof unread = [];
  const received: string[] = [];
  const channel: Channel = {
    sendsHandles: true,
    handlesTravelAlone,
    send(raw, handle) {
      (unread.some(({ handle }) => handle !== undefined) ? later : unread).push({ raw, handle });
      return Promise.resolve();
    },
    onMessage() {},
    onClose() {},
  };
  const timers = new Set<() => void>();
  const outbox = createOutbox({
    now: () => 0,
    timer(_, callback) {
      timers.add(callback);
      return () => timers.delete(callback);
    },
    hold: () => () => {},
  });
  outbox.open(channel);
  outbox.setAnswers();
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  return {
    outbox,
    received,
    timers,
    /** The other side reads what is there. */
    async read() {
      await turn();
      const piece = unread;
      unread = later;
      later = [];
      for (const { raw, handle } of piece) {
        const message = parseFromPredecessor(raw);
        if (message?.type === "ask") outbox.answer(message.number);
        else {received.push(
            `${message?.type}${
              handle === undefined ? "" : piece.length > 1 ? " lost" : " with its socket"
            }`,
          );}
      }
      await turn();
      return piece.length;
    },
  };
}

test("a socket is sent when all before it was read, and what comes behind it waits", async () => {
  for (const handlesTravelAlone of [true, false]) {
    const { outbox, read, received } = createScene(handlesTravelAlone);
    outbox.send({ type: "offered" });
    outbox.send({ type: "data", name: "a", data: {} }, {});
    outbox.send({ type: "reload" });
    outbox.send({ type: "data", name: "a", data: {} }, {});
    const answered = outbox.ask();
    while (await read() > 0);
    await answered;
    assert.deepEqual(received, [
      "offered",
      handlesTravelAlone ? "data with its socket" : "data lost",
      "reload",
      handlesTravelAlone ? "data with its socket" : "data lost",
    ]);
  }
});

test("one socket after the other needs no question in between", async () => {
  const { outbox, read } = createScene(true);
  outbox.send({ type: "data", name: "a", data: {} }, {});
  await read(); // The question whether all was read.
  assert.equal(await read(), 1);
  outbox.send({ type: "data", name: "a", data: {} }, {});
  assert.equal(await read(), 1);
});

test("a process that does not read gets no socket, and the sender is told in time", async () => {
  const { outbox, timers } = createScene(true);
  outbox.send({ type: "offered" });
  const sent = outbox.send({ type: "data", name: "a", data: {} }, {});
  sent.catch(() => {});
  await new Promise((resolve) => setImmediate(resolve));
  for (const fire of timers) fire();
  await assert.rejects(sent, /does not read what is sent to it/);
});

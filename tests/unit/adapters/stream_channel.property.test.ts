import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Stream, streamChannel } from "../../../adapters/deno/channel.ts";
import { ReloadError } from "../../../src/core/error.ts";

/**
 * The two ends of a connection; each write and each read takes as many bytes as the numbers say, in
 * turns.
 */
function connection(pieces: readonly number[]): [Stream, Stream] {
  const ends = [0, 1].map(() => ({ bytes: [] as number[], closed: false, wake: () => {} }));
  let turn = 0;
  const most = () => pieces[turn++ % pieces.length] as number;
  const end = (mine: number): Stream => {
    const [own, other] = [ends[mine], ends[1 - mine]] as [typeof ends[0], typeof ends[0]];
    return {
      async read(buffer) {
        while (own.bytes.length === 0 && !other.closed) {
          await new Promise<void>((resolve) => own.wake = resolve);
        }
        if (own.bytes.length === 0) return null;
        const taken = own.bytes.splice(0, most());
        buffer.set(taken);
        return taken.length;
      },
      write(bytes) {
        if (other.closed) return Promise.reject(new Error("closed"));
        const length = Math.min(bytes.length, most());
        other.bytes.push(...bytes.subarray(0, length));
        other.wake();
        return Promise.resolve(length);
      },
      close() {
        own.closed = true;
        other.wake();
      },
    };
  };
  return [end(0), end(1)];
}

test("messages arrive as they were sent, in their order, however the stream cuts them", async () => {
  const message = fc.oneof(
    fc.jsonValue(),
    fc.string({ unit: "grapheme" }),
    fc.constant("ä\n日本\u2028😀"),
  );
  const pieces = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 });
  await fc.assert(
    fc.asyncProperty(fc.array(message, { minLength: 1 }), pieces, async (messages, pieces) => {
      const [a, b] = connection(pieces);
      const opened = Promise.withResolvers<Stream>();
      const [sender, receiver] = [streamChannel(opened.promise), streamChannel(Promise.resolve(b))];
      const received: unknown[] = [];
      const all = Promise.withResolvers<void>();
      receiver.onMessage((message) => received.push(message) === messages.length && all.resolve());
      const sent = messages.map((message) => sender.send(message)); // Before it is open.
      opened.resolve(a);
      await Promise.all([...sent, all.promise]);
      // -0 has no sign in JSON.
      assert.deepEqual(received, JSON.parse(JSON.stringify(messages)));
      const closed = Promise.all(
        [sender, receiver].map(({ onClose }) => new Promise<void>((resolve) => onClose(resolve))),
      );
      a.close();
      await closed;
      await assert.rejects(receiver.send("nobody hears it"));
    }),
  );
});

test("a line that is no JSON is a message that nobody understands", async () => {
  const [a, b] = connection([100]);
  const received: unknown[] = [];
  const channel = streamChannel(Promise.resolve(b));
  channel.onMessage((message) => received.push(message));
  await a.write(new TextEncoder().encode(`nonsense\n{"a":1}\n"half`));
  const closed = new Promise<void>((resolve) => channel.onClose(resolve));
  a.close();
  await closed;
  assert.deepEqual(received, [undefined, { a: 1 }]);
});

test("a stream that cannot be opened is a channel that is closed, and no socket goes over it", async () => {
  const channel = streamChannel(Promise.reject(new Error("refused")));
  await new Promise<void>((resolve) => channel.onClose(resolve));
  await assert.rejects(channel.send("hello"), /refused/);
  await assert.rejects(
    channel.send("hello", {}),
    (error) => error instanceof ReloadError && /reload once more/.test(error.message),
  );
});

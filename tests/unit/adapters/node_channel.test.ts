/** The channel of node:child_process, where the runtime does not do its part. */
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { inheritedChannel, type NodeProcess } from "../../../adapters/shared/node_channel.ts";

test("a message that is never confirmed is rejected when the channel closes", async () => {
  const process = Object.assign(new EventEmitter(), {
    connected: true,
    send: () => true,
    channel: { unref() {} },
    getBuiltinModule: () => ({ EventEmitter }),
  });
  const channel = inheritedChannel(process as unknown as NodeProcess, 1, {
    sendsHandles: true,
    handlesTravelAlone: false,
  })
    ?.channel;
  const sent = channel?.send("a message") ?? Promise.resolve();
  EventEmitter.prototype.emit.call(process, "disconnect"); // As the runtime does.
  await assert.rejects(sent, /closed the channel/);
});

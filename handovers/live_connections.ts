/**
 * Moves live connections to the new process. At the commit the application lets go of them, before its state is taken: what the new process
 * gets is complete, and nothing changes it afterwards. They are sent when the new process is in charge. This process keeps each connection
 * until the new one has taken it, so that it can go on with it when the reload fails.
 */
import { describeError } from "../core/describe_error.ts";
import type { LiveSocket } from "../core/live.ts";
import { pause } from "../core/pause.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { LiveGroup } from "../program/live.ts";
import type { ProgramContext } from "../program/parts.ts";
import type { Handover, OldSide, Reload } from "../reload/handover.ts";
import { createConnectionSender, departing, isGone } from "./connection_sender.ts";
import { concat } from "./connection_message.ts";
import { createLiveArrivals } from "./live_arrivals.ts";

/** Milliseconds between two attempts with connections that could not be moved before. */
const RETRY_MS = 10;
/** How long the commit waits for what was written. */
const FLUSH_TIMEOUT_MS = 50;

/** The handover of the live connections. */
export function createLiveConnections(
  adapter: ConnectionAdapter | undefined,
  program: ProgramContext,
): Handover {
  const name = "the live connections";
  if (adapter === undefined) return { name };
  const arrivals = createLiveArrivals(adapter, program);
  return {
    name,
    oldSide: (reload) => sendConnections(adapter, program, reload),
    newSide: arrivals.receive,
  };
}

function sendConnections(
  adapter: ConnectionAdapter,
  { clock, emit, live: groups, warn }: ProgramContext,
  reload: Reload,
): OldSide {
  const { link, signal } = reload;
  const sender = createConnectionSender(adapter.window, clock, reload);
  /** Those that the application, or what it has written, does not let go of yet. */
  const waiting = new Map<LiveSocket, LiveGroup>();
  let isLast = false;
  let moving: Promise<void> | undefined;

  const canMove = (socket: LiveSocket) =>
    !socket.encrypted && socket.readableEncoding === null && adapter.handle(socket) !== undefined;

  function keep(group: LiveGroup, socket: LiveSocket, session: unknown): void {
    const chunks: Uint8Array[] = [];
    for (let chunk; socket.readableLength > 0 && (chunk = socket.read()) !== null;) chunks.push(chunk);
    const unread = concat(chunks);
    adapter.stop(socket); // Reading from the buffer starts the reading below it.
    socket.on("error", ignore);
    sender.add({
      ...departing(adapter, socket),
      group: group.name,
      session,
      unread,
      giveBack() {
        socket.removeListener("error", ignore);
        if (isGone(socket)) return void socket.destroy();
        if (unread.length > 0) socket.unshift(unread);
        group.serve(socket, session);
        adapter.start(socket);
      },
    });
  }

  /** Lets the application let go of a connection, if that is possible now. */
  function release(group: LiveGroup, socket: LiveSocket): void {
    waiting.delete(socket);
    if (isGone(socket)) return;
    adapter.stop(socket);
    if (socket.writableLength > 0) return void waiting.set(socket, group);
    let session: unknown;
    try {
      session = group.release(socket);
    } catch (error) {
      warn(`${group.name}: release() threw, and the connection is not moved: ${describeError(error)}`);
      return adapter.start(socket);
    }
    if (session !== undefined) return keep(group, socket, session);
    waiting.set(socket, group);
    adapter.start(socket);
  }

  function goOn(): void {
    for (const group of groups.values()) group.divert = undefined;
    for (const { sockets } of groups.values()) for (const socket of sockets) if (canMove(socket)) adapter.start(socket);
  }

  /** Waits until what was written has left this process. A client that does not read is not waited for. */
  async function flush(sockets: readonly LiveSocket[]): Promise<void> {
    const begun = clock.now();
    while (sockets.some(({ writableLength }) => writableLength > 0) && clock.now() - begun < FLUSH_TIMEOUT_MS) {
      await pause(clock, 1);
    }
  }

  async function move(): Promise<void> {
    await sender.tell("begin");
    await sender.sendAll();
    await sender.tell("complete");
    const independent = [...groups.values()].filter(({ isIndependent }) => isIndependent)
      .flatMap((group) => [...group.sockets].map((socket) => [group, socket] as const));
    while (independent.length > 0 && !signal.aborted) {
      for (const [group, socket] of independent.splice(0, adapter.window)) if (canMove(socket)) release(group, socket);
      await sender.sendAll();
    }
    for (; !signal.aborted && !isLast; await sender.sendAll()) {
      await pause(clock, RETRY_MS);
      for (const [socket, group] of [...waiting]) release(group, socket);
    }
  }

  return {
    sendsSockets: () => groups.size > 0,
    offer: sender.open,
    async commit() {
      if (!link.sendsHandles || groups.size === 0) return;
      const all: [LiveGroup, LiveSocket][] = [];
      for (const group of groups.values()) {
        if (group.isIndependent) continue;
        group.divert = (socket, isUsed) => {
          if (!isUsed) {
            adapter.stop(socket);
            return keep(group, socket, undefined);
          }
          group.serve(socket, undefined);
          if (canMove(socket)) release(group, socket);
        };
        for (const socket of group.sockets) if (canMove(socket)) all.push([group, socket]);
      }
      for (const [, socket] of all) adapter.stop(socket);
      await flush(all.map(([, socket]) => socket));
      signal.throwIfAborted();
      for (const [group, socket] of all) release(group, socket);
      await sender.tell("announced").catch(() => {}); // Then none is sent later, either, and all are served here.
    },
    onProbation() {
      if (!link.sendsHandles || groups.size === 0) return;
      moving = move().catch(() => {}); // The new process is gone, or hangs: what is left stays here.
    },
    async beforeRetire() {
      if (moving === undefined) return;
      isLast = true;
      await moving;
      sender.finish();
      goOn();
      const left = [...groups.values()].reduce((sum, { sockets }) => sum + sockets.size, 0);
      const { moved, milliseconds } = sender;
      if (moved + left > 0) emit({ type: "connections-move", pid: reload.pid as number, moved, left, milliseconds });
    },
    rollback() {
      sender.giveBack();
      goOn();
    },
  };
}

const ignore = () => {};

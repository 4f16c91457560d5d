/**
 * Moves live connections to the new process. At the commit the application lets go of them, before its state is taken: what the new process
 * gets is complete, and nothing changes it afterwards. They are sent when the new process is in charge. This process keeps each connection
 * until the new one has taken it, so that it can go on with it when the reload fails.
 */
import { describeError } from "../core/describe_error.ts";
import type { LiveSocket } from "../core/live.ts";
import { DEFAULT_DRAIN_TIMEOUT_MS } from "../core/options.ts";
import { pause } from "../core/pause.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { LiveGroup } from "../program/live.ts";
import type { ProgramContext } from "../program/parts.ts";
import type { Handover, OldSide, Reload } from "../reload/handover.ts";
import { createConnectionSender, isGone } from "./connection_sender.ts";
import { takeConnections } from "./live_receiver.ts";
import { concat } from "./live_session.ts";

/** Milliseconds between two checks of the connections that are drained. */
const DRAIN_CHECK_MS = 50;
/** Milliseconds between two attempts with connections that could not be moved before. */
const RETRY_MS = 10;

/** The handover of the live connections. */
export function createLiveConnections(
  adapter: ConnectionAdapter | undefined,
  program: ProgramContext,
): Handover {
  const name = "the live connections";
  if (adapter === undefined) return { name };
  /** Those that came from the predecessor. No server of this process knows them: they are drained here. */
  const adopted = new Set<LiveSocket>();
  const { live, token, warn } = program;
  token.signal.addEventListener("abort", () => {
    if (adopted.size > 0) token.track(drain(adopted, program), { name });
  });
  return {
    name,
    oldSide: (reload) => sendConnections(adapter, program, reload),
    newSide: (arrival) => takeConnections(adapter, arrival, serve),
  };

  function serve(name: string, socket: LiveSocket, session: unknown): boolean {
    const group = live.get(name);
    if (group === undefined) {
      warn(`there are no live connections with the name ${name} here: the old process keeps its own`);
      return false;
    }
    adopted.add(socket);
    socket.once("close", () => adopted.delete(socket));
    try {
      group.serve(socket, session);
    } catch (error) {
      warn(`${name}: accept() threw, and the connection is closed: ${describeError(error)}`);
      socket.destroy();
    }
    return true;
  }
}

/** Waits for the application and the clients to end these connections, and cuts those that are left. */
async function drain(sockets: Set<LiveSocket>, { clock, options, emit }: ProgramContext): Promise<void> {
  const milliseconds = options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS;
  for (const begun = clock.now(); sockets.size > 0; await pause(clock, DRAIN_CHECK_MS)) {
    if (clock.now() - begun < milliseconds) continue;
    emit({ type: "drain-cut", server: "the predecessor", connections: sockets.size, milliseconds });
    for (const socket of sockets) socket.destroy();
    return;
  }
}

function sendConnections(
  adapter: ConnectionAdapter,
  { clock, emit, live: groups, warn }: ProgramContext,
  reload: Reload,
): OldSide {
  const { link, signal } = reload;
  const sender = createConnectionSender(adapter, clock, reload);
  /** Those that the application, or what it has written, does not let go of yet. */
  const waiting = new Map<LiveSocket, LiveGroup>();
  let isLast = false;
  let moving: Promise<void> | undefined;

  function keep(group: LiveGroup, socket: LiveSocket, session: unknown): void {
    const chunks: Uint8Array[] = [];
    for (let chunk; socket.readableLength > 0 && (chunk = socket.read()) !== null;) chunks.push(chunk);
    const unread = concat(chunks);
    adapter.stop(socket); // Reading from the buffer starts the reading below it.
    socket.on("error", ignore);
    sender.add({
      group: group.name,
      socket,
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
    const canMove = !socket.encrypted && socket.readableEncoding === null && adapter.handle(socket) !== undefined;
    if (!canMove) return;
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

  function stay(): void {
    for (const group of groups.values()) group.divert = undefined;
    sender.giveBack();
    for (const socket of waiting.keys()) adapter.start(socket);
  }

  async function move(): Promise<void> {
    await sender.begin(); // What the other handovers have sent must have arrived.
    for (;;) {
      await sender.sendAll();
      if (signal.aborted || isLast) return;
      await pause(clock, RETRY_MS);
      for (const [socket, group] of [...waiting]) release(group, socket);
    }
  }

  return {
    sendsSockets: () => groups.size > 0,
    offer: sender.open,
    commit() {
      if (!link.sendsHandles) return;
      for (const group of groups.values()) {
        group.divert = (socket) => {
          adapter.stop(socket);
          keep(group, socket, undefined);
        };
        for (const socket of [...group.sockets]) release(group, socket);
      }
    },
    onProbation() {
      if (!link.sendsHandles || groups.size === 0) return;
      moving = move().catch(() => {}); // The new process is gone, or hangs: what is left stays here.
    },
    async retire() {
      if (moving === undefined) return;
      isLast = true;
      await moving;
      stay();
      const left = [...groups.values()].reduce((sum, { sockets }) => sum + sockets.size, 0);
      const { moved, milliseconds } = sender;
      if (moved + left > 0) emit({ type: "connections-move", pid: reload.pid as number, moved, left, milliseconds });
    },
    rollback: stay,
  };
}

const ignore = () => {};

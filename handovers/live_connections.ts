/**
 * Moves live connections to the new process. At the commit the application lets go of them, before its state is taken: what the new process
 * gets is complete, and nothing changes it afterwards. They are sent when the new process is in charge. This process keeps each connection
 * until the new one has taken it, so that it can go on with it when the reload fails.
 */
import { describeError } from "../core/describe_error.ts";
import type { LiveSocket } from "../core/live.ts";
import { DEFAULT_DRAIN_TIMEOUT_MS } from "../core/options.ts";
import { atMost, pause } from "../core/pause.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { LiveGroup } from "../program/live.ts";
import type { ProgramContext } from "../program/parts.ts";
import type { Handover, OldSide, Reload } from "../reload/handover.ts";
import { takeConnections } from "./live_receiver.ts";
import { concat, packSession, toBase64 } from "./live_session.ts";

/** Milliseconds between two checks of the connections that are drained. */
const DRAIN_CHECK_MS = 50;
/** Milliseconds between two attempts with connections that could not be moved before. */
const RETRY_MS = 10;
/** How long the new process may take for one connection. It is sent again then: Deno 2.9 may lose one on its way. */
const TAKE_TIMEOUT_MS = 1_000;
const MOST_ATTEMPTS = 5;

/** A connection that the application has let go of. */
interface Released {
  readonly group: LiveGroup;
  readonly socket: LiveSocket;
  readonly session: unknown;
  readonly unread: Uint8Array;
  /** Resolves when the new process has taken it, or refuses it. */
  readonly answered: PromiseWithResolvers<void>;
}

/** The handover of the live connections. */
export function createLiveConnections(
  adapter: ConnectionAdapter | undefined,
  program: ProgramContext,
): Handover {
  const name = "the live connections";
  if (adapter === undefined) return { name };
  /** Those that came from the predecessor. No server of this process knows them: they are drained here. */
  const adopted = new Set<LiveSocket>();
  const { token } = program;
  token.signal.addEventListener("abort", () => {
    if (adopted.size > 0) token.track(drain(adopted, program), { name });
  });
  return {
    name,
    oldSide: (reload) => sendConnections(adapter, program, reload),
    newSide: (arrival) => takeConnections(adapter, program, arrival, adopted),
  };
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
  /** Those that the new process has not taken yet, by the numbers they are sent under. */
  const released = new Map<number, Released>();
  /** Those that the application, or what it has written, does not let go of yet. */
  const waiting = new Map<LiveSocket, LiveGroup>();
  const pong = Promise.withResolvers<void>();
  let moved = 0;
  let count = 0;
  let begun = 0;
  let ended = 0;
  let isLast = false;
  let moving: Promise<void> | undefined;

  function keep(group: LiveGroup, socket: LiveSocket, session: unknown): void {
    const chunks: Uint8Array[] = [];
    for (let chunk; socket.readableLength > 0 && (chunk = socket.read()) !== null;) chunks.push(chunk);
    adapter.stop(socket); // Reading from the buffer starts the reading below it.
    socket.on("error", ignore);
    released.set(++count, { group, socket, session, unread: concat(chunks), answered: Promise.withResolvers() });
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

  /** Gives a connection back to the application. */
  function giveBack({ group, socket, session, unread }: Released): void {
    socket.removeListener("error", ignore);
    if (isGone(socket)) return void socket.destroy();
    if (unread.length > 0) socket.unshift(unread);
    group.serve(socket, session);
    adapter.start(socket);
  }

  function stay(): void {
    for (const group of groups.values()) group.divert = undefined;
    for (const connection of released.values()) giveBack(connection);
    released.clear();
    for (const socket of waiting.keys()) adapter.start(socket);
  }

  async function send(id: number, { group, socket, session, unread, answered }: Released): Promise<void> {
    for (let attempt = 1; released.has(id); attempt++) {
      if (isGone(socket)) return void released.delete(id);
      if (attempt > MOST_ATTEMPTS) throw new Error("the new process takes no connections");
      const data = { id, group: group.name, ...packSession(session), unread: toBase64(unread) };
      const sent = link.send({ connection: data }, adapter.handle(socket));
      await atMost(clock, TAKE_TIMEOUT_MS, Promise.all([sent, answered.promise]));
    }
  }

  async function sendAll(): Promise<void> {
    const all = released.entries();
    await Promise.all(Array.from({ length: adapter.window }, async () => {
      for (const [id, connection] of all) {
        if (signal.aborted) return;
        await send(id, connection);
      }
    }));
  }

  async function move(): Promise<void> {
    begun = clock.now();
    // What the other handovers have sent must have arrived: Deno 2.9 loses a socket that arrives in one piece with another message.
    await link.send({ ping: true });
    await atMost(clock, TAKE_TIMEOUT_MS, pong.promise);
    for (;;) {
      await sendAll();
      if (signal.aborted || isLast) return;
      await pause(clock, RETRY_MS);
      for (const [socket, group] of [...waiting]) release(group, socket);
    }
  }

  return {
    sendsSockets: () => groups.size > 0,
    offer() {
      link.onData((data) => {
        const { pong: isPong, taken, refused } = data as Record<string, unknown>;
        if (isPong === true) pong.resolve();
        const connection = released.get(Number(taken ?? refused));
        if (connection === undefined) return;
        released.delete(Number(taken ?? refused));
        if (taken !== undefined) {
          moved++;
          ended = clock.now();
          connection.socket.destroy(); // The connection itself lives on: the new process has it as well.
        } else giveBack(connection);
        connection.answered.resolve();
      });
    },
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
      if (moved + left > 0) {
        emit({
          type: "connections-move",
          pid: reload.pid as number,
          moved,
          left,
          milliseconds: moved === 0 ? 0 : ended - begun,
        });
      }
    },
    rollback: stay,
  };
}

const ignore = () => {};
const isGone = ({ destroyed, readableEnded, writableEnded }: LiveSocket) => destroyed || readableEnded || writableEnded;

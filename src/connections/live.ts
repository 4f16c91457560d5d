/**
 * Moves live connections to the new process. At the commit the application lets go of them, before
 * its state is taken: what the new process gets is complete, and nothing changes it afterwards.
 * They are sent when the new process is in charge. This process keeps each connection until the new
 * one has taken it, so that it can go on with it when the reload fails.
 */
import { describeError } from "../core/describe_error.ts";
import type { LiveSocket } from "../core/live.ts";
import { isNative, type NativeSocket } from "../core/native_socket.ts";
import { pause } from "../core/pause.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { LiveGroup } from "../resources/live_groups.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import { type ConnectionSender, createConnectionSender, departing, isGone } from "./sender.ts";
import { concat } from "../protocol/connections.ts";
import { createLiveArrivals } from "./live_arrivals.ts";
import { type LiveAccess, liveAccess, type NativeAccess } from "./live_access.ts";
import type { NativeSockets } from "./native_sockets.ts";

/** Milliseconds between two attempts with connections that could not be moved before. */
const RETRY_MS = 10;
/** How long the commit waits for what was written. */
const FLUSH_TIMEOUT_MS = 50;
const FLUSH_TURNS = 10;
/** How long it waits as long as this process goes on with it. */
const MOST_FLUSH_MS = 1_000;
/**
 * How many that the runtime serves are released at once: the first few wait for what the new process
 * does for the first time.
 */
const FIRST_NATIVE_WINDOW = 16;
const NATIVE_WINDOW = 128;

/** The handover of the live connections. */
export function createLiveConnections(
  adapter: ConnectionAdapter | undefined,
  program: ProgramContext,
  natives: NativeSockets | undefined,
): Handover {
  const name = "the live connections";
  if (adapter === undefined) return { name };
  const arrivals = createLiveArrivals(adapter, program, natives);
  return {
    name,
    outgoing: (reload) => sendConnections(adapter, program, natives, reload),
    incoming: arrivals.receive,
  };
}

/** The move of one reload. */
interface LiveMove {
  readonly adapter: ConnectionAdapter;
  readonly program: Pick<ProgramContext, "clock" | "live" | "warn">;
  readonly natives: NativeSockets | undefined;
  readonly native: NativeAccess | undefined;
  readonly access: LiveAccess;
  readonly sender: ConnectionSender;
  /** Fires when the reload has failed. */
  readonly signal: AbortSignal;
  /**
   * Those that this process got late, or that the application, or what it has written, does not let
   * go of yet.
   */
  readonly waiting: Map<LiveSocket, LiveGroup>;
  /** Those that the application has let go of, and that are still in their server. */
  readonly retained: Set<Retained>;
  /** Whether all that share a state were released. */
  isAnnounced: boolean;
  /** Whether the probation is over: then each is tried once more. */
  isLast: boolean;
}

/** A connection, and what it belongs to. */
type Member = readonly [LiveSocket, LiveGroup];

/** A connection for which there was no descriptor left. */
interface Retained {
  readonly group: LiveGroup;
  readonly socket: NativeSocket;
  readonly session: unknown;
}

function sendConnections(
  adapter: ConnectionAdapter,
  program: ProgramContext,
  natives: NativeSockets | undefined,
  reload: OutgoingReload,
): OutgoingHandover {
  const { live: groups } = program;
  const { link, signal } = reload;
  const sender = createConnectionSender(adapter.window, program.clock, reload);
  const native = natives?.access();
  const access = liveAccess(adapter, native);
  const move: LiveMove = {
    ...{ adapter, program, natives, native, access, sender, signal },
    waiting: new Map(),
    retained: new Set(),
    isAnnounced: false,
    isLast: false,
  };
  let moving: Promise<void> | undefined;
  return {
    sendsSockets: () => groups.size > 0,
    sendsDescriptors: () => groups.size > 0 && native !== undefined,
    offer: sender.open,
    async commit() {
      if (link.sendsHandles && groups.size > 0) await releaseAll(move);
    },
    onProbation() {
      if (!link.sendsHandles || groups.size === 0) return;
      // The new process is gone, or hangs: what is left stays here.
      moving = sendReleased(move).catch(() => {});
    },
    async beforeRetire() {
      if (moving === undefined) return;
      move.isLast = true;
      await moving;
      endRetained(move);
      sender.finish();
      goOn(move);
    },
    moved() {
      const left = [...groups.values()].reduce((sum, { sockets }) => sum + sockets.size, 0);
      const { moved, milliseconds } = sender;
      return moving === undefined || moved + left === 0
        ? undefined
        : { kind: "live", moved, left, milliseconds };
    },
    rollback() {
      endRetained(move);
      sender.giveBack();
      goOn(move);
    },
  };
}

const canMove = ({ sender, access }: LiveMove, socket: LiveSocket) =>
  (!isNative(socket) || sender.takesDescriptors) && access.canMove(socket);

/**
 * Lets the application let go of all connections that depend on its state, before that is taken.
 */
async function releaseAll(move: LiveMove): Promise<void> {
  const { program: { live }, native, access, sender, signal } = move;
  if (native !== undefined) await sender.tell("begin").catch(() => {}); // Does it take descriptors?
  access.refresh();
  const all: Member[] = [];
  for (const group of live.values()) {
    if (group.isIndependent) continue;
    group.divert = (socket, isUsed) => divert(move, group, socket, isUsed);
    for (const socket of group.sockets) if (canMove(move, socket)) all.push([socket, group]);
  }
  await releaseTogether(move, all);
  signal.throwIfAborted();
  move.isAnnounced = true;
  // Then none is sent later, either, and all are served here.
  await sender.tell("announced").catch(() => {});
}

/** Lets the application let go of so many connections, as far as that is possible now. */
async function releaseTogether(move: LiveMove, members: readonly Member[]): Promise<void> {
  const { access, signal } = move;
  for (const [socket] of members) access.stop(socket);
  await flush(move, members.map(([socket]) => socket));
  signal.throwIfAborted();
  for (const [socket, group] of members) release(move, group, socket);
  await keepRetained(move);
}

/** A connection that this process gets after the commit. */
function divert(move: LiveMove, group: LiveGroup, socket: LiveSocket, isUsed: boolean): void {
  if (!isUsed) {
    move.access.stop(socket);
    return keep(move, group, socket, undefined);
  }
  group.serve(socket, undefined);
  // Later: Bun 1.4 writes the answer to a handshake when its handler has returned.
  move.waiting.set(socket, group);
  if (canMove(move, socket)) move.access.stop(socket);
}

/** Lets the application let go of a connection, if that is possible now. */
function release(move: LiveMove, group: LiveGroup, socket: LiveSocket): void {
  const { waiting, access, program: { warn } } = move;
  waiting.delete(socket);
  if (isGone(socket)) return;
  access.stop(socket);
  if (socket.writableLength > 0) {
    waiting.set(socket, group);
    // The state of the others has been taken: what such a client asks could change it.
    if (group.isIndependent) access.start(socket);
    return;
  }
  let session: unknown;
  try {
    session = group.release(socket, move.isAnnounced && !group.isIndependent);
  } catch (error) {
    warn(
      `${group.name}: release() threw, and the connection is not moved: ${describeError(error)}`,
    );
    return access.start(socket);
  }
  if (session !== undefined) return keep(move, group, socket, session);
  waiting.set(socket, group);
  access.start(socket);
}

/** Keeps a connection that the application has let go of until the new process has taken it. */
function keep(move: LiveMove, group: LiveGroup, socket: LiveSocket, session: unknown): void {
  if (isNative(socket)) return keepNative(move, group, socket, session);
  const { adapter, sender } = move;
  const chunks: Uint8Array[] = [];
  for (let chunk; socket.readableLength > 0 && (chunk = socket.read()) !== null;) {
    chunks.push(chunk);
  }
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

/** The same for one that the runtime serves: it is taken out of its server. */
function keepNative(
  move: LiveMove,
  group: LiveGroup,
  socket: NativeSocket,
  session: unknown,
): void {
  const { natives, native, access, sender, retained } = move;
  const fd = native && access.take(socket);
  if (native === undefined || fd === undefined) {
    return void retained.add({ group, socket, session });
  }
  sender.add({
    group: group.name,
    shared: { fd },
    session,
    close: () => native.libc.close(fd),
    giveBack: () =>
      group.serve(natives?.arrivals(native.libc).passing(fd) as NativeSocket, session),
  });
}

/**
 * Takes those for which there was no descriptor left: a runtime closes that of a connection which
 * was taken in one of its next turns.
 */
async function keepRetained(move: LiveMove): Promise<void> {
  const { retained, signal, program: { clock } } = move;
  const begun = clock.now();
  while (retained.size > 0 && !signal.aborted && clock.now() - begun < MOST_FLUSH_MS) {
    await pause(clock, 1);
    takeRetained(move);
  }
  endRetained(move);
}

function takeRetained(move: LiveMove): void {
  const again = [...move.retained];
  move.retained.clear();
  for (const { group, socket, session } of again) keepNative(move, group, socket, session);
}

/** Tries once more, and closes those that cannot be taken. */
function endRetained(move: LiveMove): void {
  takeRetained(move);
  const { retained, program: { warn } } = move;
  for (const { group, socket } of retained) {
    warn(`${group.name}: a connection could not be moved, and is closed`);
    socket.served?.terminate();
    socket.emitClose();
  }
  retained.clear();
}

/**
 * Waits until what was written has left this process, and what was read has reached the
 * application. A client that does not read, or is in the middle of a message, is not waited for.
 */
async function flush(
  { program: { clock } }: LiveMove,
  sockets: readonly LiveSocket[],
): Promise<void> {
  const isBusy = (socket: LiveSocket) =>
    socket.writableLength > 0 || (isNative(socket) && socket.served?.isAtRest() === false);
  const begun = clock.now();
  let progress = 0;
  let last = begun; // That of the last progress.
  let turns = 0; // Those without progress: one may take longer than all the time that there is.
  for (let busy = sockets.filter(isBusy); busy.length > 0; busy = busy.filter(isBusy)) {
    const before = progress;
    progress = busy.reduce(
      (sum, socket) => sum + (isNative(socket) ? socket.served?.progress ?? 0 : 0),
      0,
    );
    if (before !== progress) [last, turns] = [clock.now(), 0];
    if (turns++ >= FLUSH_TURNS && clock.now() - last > FLUSH_TIMEOUT_MS) break;
    if (clock.now() - begun > MOST_FLUSH_MS) break;
    await pause(clock, 1);
  }
}

/**
 * Sends those that were released, then the independent ones, then, until the probation is over,
 * those that were busy.
 */
async function sendReleased(move: LiveMove): Promise<void> {
  const { program: { clock }, waiting, access, sender, signal } = move;
  const natives = () =>
    [...waiting].filter(([socket]) => isNative(socket) && canMove(move, socket));
  await sender.tell("begin", true);
  await sender.sendAll();
  await sender.tell("complete", true);
  await sendIndependent(move);
  do {
    await pause(clock, RETRY_MS);
    access.refresh();
    await releaseTogether(move, natives());
    releaseAgain(move);
    await sender.sendAll();
  } while (!signal.aborted && !move.isLast);
}

/** Lets the application let go of those that were busy. */
function releaseAgain(move: LiveMove): void {
  for (const [socket, group] of [...move.waiting]) {
    if (canMove(move, socket)) release(move, group, socket);
  }
}

/** Each of them is away for the time of its own move only. */
async function sendIndependent(move: LiveMove): Promise<void> {
  const { adapter, program: { live }, access, sender, signal } = move;
  const independent = [...live.values()].filter(({ isIndependent }) => isIndependent)
    .flatMap((group) => [...group.sockets].map((socket): Member => [socket, group]));
  access.refresh();
  for (let native = FIRST_NATIVE_WINDOW; independent.length > 0 && !signal.aborted; native *= 2) {
    const window = isNative(independent[0]?.[0] as LiveSocket)
      ? Math.min(native, NATIVE_WINDOW)
      : adapter.window;
    const some = independent.splice(0, window).filter(([socket]) => canMove(move, socket));
    releaseAgain(move); // They are not waited for: the others would be away for that time.
    await releaseTogether(move, some);
    await sender.sendAll();
  }
}

/** This process goes on with what it still has. */
function goOn(move: LiveMove): void {
  const groups = [...move.program.live.values()];
  for (const group of groups) group.divert = undefined;
  for (const { sockets } of groups) {
    for (const socket of sockets) if (canMove(move, socket)) move.access.start(socket);
  }
}

const ignore = () => {};

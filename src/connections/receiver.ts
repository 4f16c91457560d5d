/** Receives connections in the new process. */
import type { LiveSocket } from "../core/live.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { IncomingReload } from "../reload/handover.ts";
import type { HandoverData } from "../protocol/reload.ts";
import { fromBase64, parseSession } from "../protocol/connections.ts";

/** What becomes of the connections. */
export interface ConnectionHandlers {
  /**
   * Goes on with a connection from which nothing is read yet. Returns whether this process knows
   * its group.
   */
  serve(group: string, socket: LiveSocket, session: unknown): boolean;
  /**
   * The same for a connection that comes as a descriptor, which is the handler's from then on if it
   * knows the group.
   *
   * @param unread What was read and not consumed.
   * @returns A promise: the old process is told when it resolves. So it does not send more than can
   * be served soon.
   */
  serveDescriptor?(
    group: string,
    fd: number,
    session: unknown,
    unread: Uint8Array,
  ): boolean | Promise<unknown>;
  /** How many descriptors are about to be opened for those that came. */
  reserved?(): number;
  /** The old process has released its connections: they are about to be sent. */
  announced?(): void;
  /** Those that were announced have been sent. */
  allSent?(): void;
}

/** What comes for one group of handlers, in one reload. */
interface Receiving {
  readonly adapter: Pick<ConnectionAdapter, "adopt">;
  readonly link: IncomingReload["link"];
  readonly handlers: ConnectionHandlers;
  /** All that came and were not refused. */
  readonly known: Set<number>;
  /** Those of which the old process is told later. */
  readonly later: Set<number>;
}

/** What the old process says of a connection. */
type Described = Readonly<Record<string, unknown>>;

/** Receives connections. The old process goes on with what is refused. */
export function receiveConnections(
  adapter: Pick<ConnectionAdapter, "adopt">,
  { link }: IncomingReload,
  handlers: ConnectionHandlers,
): void {
  const receiving = { adapter, link, handlers, known: new Set<number>(), later: new Set<number>() };
  // The old process is gone: it needs no answer.
  const reply = (data: HandoverData) => void link.send(data).catch(() => {});

  async function takeOne(data: Described, handle: unknown): Promise<void> {
    if (handle === undefined || handle === null) return; // It is sent again.
    const isTaken = await take(receiving, data, { handle });
    if (isTaken !== undefined) reply(isTaken ? { taken: data.id } : { refused: data.id });
  }

  /** The descriptors of so many connections, if this process can take them. */
  function receiveDescriptors(number: number, count: number): readonly number[] | undefined {
    const { descriptors } = link;
    const fds = descriptors?.receive(number);
    if (fds === undefined || descriptors === undefined) return undefined;
    if (fds.length === count && descriptors.hasRoom(handlers.reserved?.() ?? 0)) return fds;
    descriptors.discard(fds);
    return undefined;
  }

  /** Those that came in one message are answered in one. */
  async function takeAll(connections: readonly unknown[], number: number): Promise<void> {
    const { known } = receiving;
    const all = connections.filter(isObject);
    const fds = receiveDescriptors(number, all.length);
    if (fds === undefined) {
      // What came before under another number is answered by itself.
      if (!all.some(({ id }) => known.has(Number(id)))) reply({ lost: number });
      return;
    }
    const taken = await Promise.all(
      all.map((data, i) => take(receiving, data, { fd: fds[i] as number })),
    );
    const ids = (was: boolean) => all.filter((_, i) => taken[i] === was).map(({ id }) => id);
    reply({ taken: ids(true), refused: ids(false) });
  }

  const takes = () => handlers.serveDescriptor !== undefined && link.descriptors !== undefined;
  link.onData((data, handle) => {
    const { ping, connection, connections, number } = data;
    if (ping === "announced") handlers.announced?.();
    if (ping === "complete") handlers.allSent?.();
    if (ping !== undefined) reply(takes() ? { pong: true, takes: true } : { pong: true });
    if (isObject(connection)) return takeOne(connection, handle);
    if (Array.isArray(connections) && typeof number === "number") {
      return takeAll(connections, number);
    }
  });
}

/** Whether it was taken; `undefined` where that is answered later. */
async function take(
  receiving: Receiving,
  data: Described,
  { fd, handle }: { readonly fd?: number; readonly handle?: unknown },
): Promise<boolean | undefined> {
  const { adapter, link, known, later } = receiving;
  const id = Number(data.id);
  if (known.has(id)) {
    // It was sent again before the answer came. A second socket would read from it as well.
    if (fd !== undefined) link.descriptors?.discard([fd]);
    else (await adapter.adopt(handle)).destroy();
    return later.has(id) ? undefined : true;
  }
  known.add(id);
  later.add(id);
  const isServed =
    await (fd !== undefined
      ? serveDescriptor(receiving, data, fd)
      : serveHandle(receiving, data, handle));
  later.delete(id);
  if (!isServed) known.delete(id);
  return isServed;
}

async function serveHandle(
  { adapter, handlers }: Receiving,
  data: Described,
  handle: unknown,
): Promise<boolean> {
  const socket = await adapter.adopt(handle);
  const unread = fromBase64(data.unread);
  if (unread !== undefined && unread.length > 0) socket.unshift(unread);
  if (unread !== undefined && handlers.serve(String(data.group), socket, parseSession(data))) {
    return true;
  }
  socket.destroy();
  return false;
}

function serveDescriptor(
  { link, handlers }: Receiving,
  data: Described,
  fd: number,
): boolean | Promise<boolean> {
  const unread = fromBase64(data.unread);
  const served = unread !== undefined &&
    handlers.serveDescriptor?.(String(data.group), fd, parseSession(data), unread);
  if (served === false || served === undefined) link.descriptors?.discard([fd]);
  return typeof served === "object" ? served.then(() => true, () => true) : served ?? false;
}

function isObject(value: unknown): value is Described {
  return typeof value === "object" && value !== null;
}

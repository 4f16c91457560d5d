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
  /** The old process has released its connections: they are about to be sent. */
  announced?(): void;
  /** Those that were announced have been sent. */
  allSent?(): void;
}

/** Receives connections. The old process goes on with what is refused. */
export function receiveConnections(
  adapter: Pick<ConnectionAdapter, "adopt">,
  { link }: IncomingReload,
  handlers: ConnectionHandlers,
): void {
  /** All that came and were not refused. */
  const known = new Set<number>();
  /** Those of which the old process is told later. */
  const later = new Set<number>();
  // The old process is gone: it needs no answer.
  const reply = (data: HandoverData) => void link.send(data).catch(() => {});

  async function serve(data: Record<string, unknown>, handle: unknown): Promise<boolean> {
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
    data: Record<string, unknown>,
    fd: number,
  ): boolean | Promise<boolean> {
    const unread = fromBase64(data.unread);
    const served = unread !== undefined &&
      handlers.serveDescriptor?.(String(data.group), fd, parseSession(data), unread);
    if (served === false || served === undefined) link.descriptors?.discard([fd]);
    return typeof served === "object" ? served.then(() => true, () => true) : served ?? false;
  }

  /** Whether it was taken; `undefined` where that is answered already, or later. */
  async function take(
    data: Record<string, unknown>,
    { fd, handle }: { fd?: number; handle?: unknown },
  ): Promise<boolean | undefined> {
    const id = Number(data.id);
    if (known.has(id)) {
      // It was sent again before the answer came. A second socket would read from it as well.
      if (fd !== undefined) link.descriptors?.discard([fd]);
      else (await adapter.adopt(handle)).destroy();
      return later.has(id) ? undefined : true;
    }
    known.add(id);
    later.add(id);
    const served = await (fd !== undefined ? serveDescriptor(data, fd) : serve(data, handle));
    later.delete(id);
    if (!served) known.delete(id);
    return served;
  }

  /** Those that came in one message are answered in one. */
  async function takeAll(connections: readonly unknown[], number: number): Promise<void> {
    const fds = link.descriptors?.receive(number);
    if (fds === undefined) return; // They are sent again.
    const all = connections.filter(isObject);
    if (all.length !== fds.length) return link.descriptors?.discard(fds);
    const taken = await Promise.all(all.map((data, i) => take(data, { fd: fds[i] as number })));
    const ids = (was: boolean) => all.filter((_, i) => taken[i] === was).map(({ id }) => id);
    reply({ taken: ids(true), refused: ids(false) });
  }

  async function takeOne(data: Record<string, unknown>, handle: unknown): Promise<void> {
    if (handle === undefined || handle === null) return; // It is sent again.
    const isTaken = await take(data, { handle });
    if (isTaken !== undefined) reply(isTaken ? { taken: data.id } : { refused: data.id });
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

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

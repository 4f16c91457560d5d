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
    fds: readonly number[],
  ): boolean | Promise<boolean> {
    const [fd, ...others] = fds;
    const unread = fromBase64(data.unread);
    const served = fd !== undefined && others.length === 0 && unread !== undefined &&
      handlers.serveDescriptor?.(String(data.group), fd, parseSession(data), unread);
    if (served === false || served === undefined) link.descriptors?.discard(fds);
    return typeof served === "object" ? served.then(() => true, () => true) : served ?? false;
  }

  async function take(data: Record<string, unknown>, handle: unknown): Promise<void> {
    const id = Number(data.id);
    const fds = typeof data.number === "number"
      ? link.descriptors?.receive(data.number)
      : undefined;
    const hasHandle = handle !== undefined && handle !== null;
    if (known.has(id)) {
      // It was sent again before the answer came. A second socket would read from it as well.
      if (fds !== undefined) link.descriptors?.discard(fds);
      else if (hasHandle) (await adapter.adopt(handle)).destroy();
      return later.has(id) ? undefined : reply({ taken: id });
    }
    if (fds === undefined && !hasHandle) return; // It is sent again.
    known.add(id);
    later.add(id);
    const served = await (fds !== undefined ? serveDescriptor(data, fds) : serve(data, handle));
    later.delete(id);
    if (served !== false) return reply({ taken: id });
    known.delete(id);
    reply({ refused: id });
  }

  const takes = () => handlers.serveDescriptor !== undefined && link.descriptors !== undefined;
  link.onData((data, handle) => {
    const { ping, connection } = data;
    if (ping === "announced") handlers.announced?.();
    if (ping === "complete") handlers.allSent?.();
    if (ping !== undefined) reply(takes() ? { pong: true, takes: true } : { pong: true });
    if (typeof connection === "object" && connection !== null) {
      return take(connection as Record<string, unknown>, handle);
    }
  });
}

/** Receives connections in the new process. */
import type { LiveSocket } from "../core/live.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { Arrival } from "../reload/handover.ts";
import type { HandoverData } from "../reload/messages.ts";
import { fromBase64, parseSession } from "./connection_message.ts";

/** What becomes of the connections. */
export interface ConnectionHandlers {
  /** Goes on with a connection from which nothing is read yet. Returns whether this process knows its group. */
  serve(group: string, socket: LiveSocket, session: unknown): boolean;
  /** The old process has released its connections: they are about to be sent. */
  announced?(): void;
  /** Those that were announced have been sent. */
  complete?(): void;
}

/** Receives connections. The old process goes on with what is refused. */
export function receiveConnections(adapter: ConnectionAdapter, { link }: Arrival, handlers: ConnectionHandlers): void {
  const taken = new Set<number>();
  const reply = (data: HandoverData) => void link.send(data).catch(() => {}); // The old process is gone: it needs no answer.

  async function take(data: Record<string, unknown>, handle: unknown): Promise<void> {
    const id = Number(data.id);
    if (taken.has(id)) return reply({ taken: id });
    if (handle === undefined || handle === null) return; // It is sent again.
    const socket = await adapter.adopt(handle);
    const unread = fromBase64(data.unread);
    if (unread !== undefined && unread.length > 0) socket.unshift(unread);
    if (unread === undefined || !handlers.serve(String(data.group), socket, parseSession(data))) {
      socket.destroy();
      return reply({ refused: id });
    }
    taken.add(id);
    reply({ taken: id });
  }

  link.onData((data, handle) => {
    const { ping, connection } = data;
    if (ping === "announced") handlers.announced?.();
    if (ping === "complete") handlers.complete?.();
    if (ping !== undefined) reply({ pong: true });
    if (typeof connection === "object" && connection !== null) return take(connection as Record<string, unknown>, handle);
  });
}

/** Connections, as they arrive in the new process. */
import type { LiveSocket } from "../core/live.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { Arrival, NewSide } from "../reload/handover.ts";
import { fromBase64, parseSession } from "./live_session.ts";

/**
 * Takes connections. The old process goes on with what is refused.
 *
 * @param serve Goes on with a connection; returns whether this process knows its group.
 */
export function takeConnections(
  adapter: ConnectionAdapter,
  { link }: Arrival,
  serve: (group: string, socket: LiveSocket, session: unknown) => boolean,
): NewSide {
  const taken = new Set<number>();
  const reply = (data: object) => void link.send(data).catch(() => {}); // The old process is gone: it needs no answer.

  async function take(data: Record<string, unknown>, handle: unknown): Promise<void> {
    const id = Number(data.id);
    if (taken.has(id)) return reply({ taken: id });
    if (handle === undefined || handle === null) return; // It is sent again.
    const socket = await adapter.adopt(handle);
    const unread = fromBase64(data.unread);
    if (unread !== undefined && unread.length > 0) socket.unshift(unread);
    if (unread === undefined || !serve(String(data.group), socket, parseSession(data))) {
      socket.destroy();
      return reply({ refused: id });
    }
    taken.add(id);
    adapter.start(socket);
    reply({ taken: id });
  }

  link.onData((data, handle) => {
    const { ping, connection } = data as Record<string, unknown>;
    if (ping === true) reply({ pong: true });
    if (typeof connection === "object" && connection !== null) take(connection as Record<string, unknown>, handle);
  });
  return {};
}

/** The live connections, as they arrive in the new process. */
import { describeError } from "../core/describe_error.ts";
import type { LiveSocket } from "../core/live.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { ProgramContext } from "../program/parts.ts";
import type { Arrival, NewSide } from "../reload/handover.ts";
import { fromBase64, parseSession } from "./live_session.ts";

/** Takes connections, and puts them among the adopted ones until they are closed. */
export function takeConnections(
  adapter: ConnectionAdapter,
  { live: groups, warn }: ProgramContext,
  { link }: Arrival,
  adopted: Set<LiveSocket>,
): NewSide {
  const taken = new Set<number>();
  const reply = (data: object) => void link.send(data).catch(() => {}); // The old process is gone: it needs no answer.

  async function take(data: Record<string, unknown>, handle: unknown): Promise<void> {
    const id = Number(data.id);
    if (taken.has(id)) return reply({ taken: id });
    if (handle === undefined || handle === null) return; // It is sent again.
    const socket = await adapter.adopt(handle);
    const group = groups.get(String(data.group));
    const unread = fromBase64(data.unread);
    if (group === undefined || unread === undefined) {
      warn(`there are no live connections with the name ${data.group} here: the old process keeps its own`);
      socket.destroy();
      return reply({ refused: id });
    }
    taken.add(id);
    adopted.add(socket);
    socket.once("close", () => adopted.delete(socket));
    if (unread.length > 0) socket.unshift(unread);
    try {
      group.serve(socket, parseSession(data));
    } catch (error) {
      warn(`${group.name}: accept() threw, and the connection is closed: ${describeError(error)}`);
      socket.destroy();
    }
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

/** A listening socket that comes back from a new process which has failed its check. */
import type { Clock } from "../core/adapter.ts";
import { atMost } from "../core/pause.ts";
import type { SocketAdapter } from "../core/socket_adapter.ts";
import { type BoundServer, isSameAddress } from "./bound_server.ts";

/** How long the new process may take to give it back. */
const BACK_TIMEOUT_MS = 1_000;

/** Listens on a socket when it comes. Returns whether the server listens. */
export async function openReturned(server: BoundServer, returned: Promise<unknown>, clock: Clock): Promise<boolean> {
  let isLate = false;
  const given = returned.then((socket) => {
    if (!isLate) return socket === undefined ? undefined : server.open(socket);
    (socket as { close(): void } | undefined)?.close(); // It accepts, and nobody serves.
  });
  await atMost(clock, BACK_TIMEOUT_MS, given.catch(() => {})); // It is gone: its sockets are closed.
  isLate = true;
  return server.isOpen;
}

/** Deno 2.9 may lose the message with the socket (denoCarries), but not the socket. */
export function holdLost(adapter: Pick<SocketAdapter, "listening">, server: BoundServer): void {
  const lost = adapter.listening()?.find(({ address }) => isSameAddress(address, server.address));
  if (lost !== undefined) server.hold({ source: { fd: lost.fd }, release() {} });
}

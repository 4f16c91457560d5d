import type { SocketAdapter } from "../core/socket_adapter.ts";
import { isSameHost } from "../linux/addresses.ts";
import type { BoundRequest } from "./bound_server.ts";

/** The socket that this process was started with for a request, of those that are left. */
export function findActivated(
  left: SocketAdapter["activated"],
  { name, options: { host, port, path } }: BoundRequest,
): number | undefined {
  if (name !== undefined) return left.find((socket) => socket.name === name)?.fd;
  return left.find(({ address }) =>
    typeof address === "string"
      ? address === path
      : address !== undefined && address.port === port && isSameHost(host as string | undefined, address.address)
  )?.fd;
}

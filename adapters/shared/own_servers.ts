/** The servers of this process that nobody has bound, as Node itself shows them. */
import type { Server } from "node:net";
import type { OwnSocket } from "../../src/core/socket_adapter.ts";
import type { NodeProcess } from "./node_channel.ts";

/** A server of node:net, among what keeps Node from ending. */
type ActiveServer = Server & { readonly _handle?: { readonly fd?: number } | null };

function activeServers(process: NodeProcess): ActiveServer[] {
  // Deprecated in its documentation (DEP0161): `getActiveResourcesInfo` shows no addresses, and cannot close anything.
  const { _getActiveHandles: handles } = process as unknown as { _getActiveHandles?: () => unknown[] };
  const { Server } = process.getBuiltinModule("node:net");
  return (handles?.call(process) ?? []).filter((handle): handle is ActiveServer =>
    handle instanceof Server && handle.listening
  );
}

/** The listening sockets: where there is no /proc, or it may not be read. */
export function listActiveServers(process: NodeProcess): OwnSocket[] {
  return activeServers(process).flatMap((server): OwnSocket[] => {
    const address = server.address();
    const { fd = -1 } = server._handle ?? {};
    if (address === null) return [];
    if (typeof address === "string") return [{ fd, address }];
    return [{ fd, address: { ...address, family: String(address.family) } }];
  });
}

/** Closes the server with this descriptor. Its connections stay. */
export function closeActiveServer(process: NodeProcess, fd: number): boolean {
  const server = activeServers(process).find(({ _handle }) => _handle?.fd === fd);
  if (server === undefined) return false;
  process.getBuiltinModule("node:net").Server.prototype.close.call(server);
  return true;
}

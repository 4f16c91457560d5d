/** The listening sockets of this process, whoever made them, from /proc. */
import type { OwnSocket, SocketAddress } from "../../src/core/socket_adapter.ts";
import { hasAllListeners, LISTENING, parseSocketInode } from "../../src/linux/proc.ts";
import { parseAddress, type ProcFiles } from "./activation.ts";
import type { Server } from "node:net";
import type { NodeProcess } from "./node_channel.ts";

/** The flags of a listening socket in /proc/net/unix: __SO_ACCEPTCON. */
const ACCEPTS = "00010000";

/** The listening sockets of all processes in this network namespace, by their inodes; proc_net(5), proc_pid_net(5). */
function allListeners(proc: ProcFiles): Map<string, SocketAddress | string> {
  const found = new Map<string, SocketAddress | string>();
  for (const table of ["tcp", "tcp6"]) {
    for (const line of proc.text(`/proc/self/net/${table}`, hasAllListeners)?.split("\n") ?? []) {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === LISTENING && local !== undefined && inode !== undefined) found.set(inode, parseAddress(local));
    }
  }
  for (const line of proc.text("/proc/self/net/unix", () => false)?.split("\n") ?? []) {
    const [, flags, inode, path] = /^\S+: \S+ \S+ (\S+) \S+ \S+ +(\d+) (.+)$/.exec(line) ?? [];
    // Not those without a file: nobody can be told where they are.
    if (flags === ACCEPTS && inode !== undefined && path !== undefined && !path.startsWith("@")) found.set(inode, path);
  }
  return found;
}

/** The listening sockets among these descriptors. */
export function ownSockets(descriptors: readonly number[], proc: ProcFiles): OwnSocket[] {
  const all = allListeners(proc);
  const found = new Map<string, OwnSocket>();
  for (const fd of all.size > 0 ? descriptors : []) {
    const inode = parseSocketInode(proc.link(`/proc/self/fd/${fd}`));
    const address = inode === undefined ? undefined : all.get(inode);
    if (inode !== undefined && address !== undefined) found.set(inode, { fd, address });
  }
  return [...found.values()];
}

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

/** The listening sockets as Node itself shows them: where there is no /proc, or it may not be read. */
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

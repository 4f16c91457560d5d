/** The listening sockets of this process, whoever made them, from /proc. */
import type { OwnSocket, SocketAddress } from "../../src/core/socket_adapter.ts";
import { hasAllListeners, LISTENING, parseSocketInode } from "../../src/linux/proc.ts";
import { parseAddress, type ProcFiles } from "./activation.ts";

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

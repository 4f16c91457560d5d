/** All listening sockets of this process, from /proc. */
import type { OwnSocket, SocketAddress } from "../../src/core/socket_adapter.ts";
import { asSocketAddress } from "../../src/linux/addresses.ts";
import { hasAllListeners, parseListeners, parseSocketInode } from "../../src/linux/proc.ts";
import type { Server } from "node:net";
import type { NodeProcess } from "./node_channel.ts";

/** Links and files of /proc; `undefined` where one cannot be read. */
export interface ProcFiles {
  link(path: string): string | undefined;
  /** Reads a file from its beginning until `enough`. */
  text(path: string, enough: (read: string) => boolean): string | undefined;
}

/** How much of a file is read at once. */
const BLOCK = 2 ** 16;

/** Reads until there is enough, or no more. */
export function readUntil(
  read: (buffer: Uint8Array) => number | null,
  enough: (read: string) => boolean,
): string {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(BLOCK);
  let text = "";
  for (
    let count;
    (count = read(buffer)) &&
    !enough(text += decoder.decode(buffer.subarray(0, count), { stream: true }));
  );
  return text;
}

/** The flags of a listening socket in /proc/net/unix: __SO_ACCEPTCON. */
const ACCEPTS = "00010000";

/**
 * Where the sockets of all processes in this network namespace listen, by their inodes;
 * proc_net(5), proc_pid_net(5).
 */
export function listeningAddresses(proc: ProcFiles): Map<string, SocketAddress | string> {
  const found = new Map<string, SocketAddress | string>();
  for (const table of ["tcp", "tcp6"]) {
    const listeners = parseListeners(proc.text(`/proc/self/net/${table}`, hasAllListeners) ?? "");
    for (const { inode, bytes, port } of listeners) found.set(inode, asSocketAddress(bytes, port));
  }
  for (const line of proc.text("/proc/self/net/unix", () => false)?.split("\n") ?? []) {
    const [, flags, inode, path] = /^\S+: \S+ \S+ (\S+) \S+ \S+ +(\d+) (.+)$/.exec(line) ?? [];
    if (flags === ACCEPTS && inode !== undefined && path !== undefined) found.set(inode, path);
  }
  return found;
}

/**
 * The listening sockets among these descriptors.
 *
 * @param debuggers The ports of the debugger of this process: it keeps no process alive, and no
 * server of the program has its port.
 */
export function ownSockets(
  descriptors: readonly number[],
  proc: ProcFiles,
  debuggers: ReadonlySet<number>,
): OwnSocket[] {
  const all = listeningAddresses(proc);
  const found = new Map<string, OwnSocket>();
  for (const fd of all.size > 0 ? descriptors : []) {
    const inode = parseSocketInode(proc.link(`/proc/self/fd/${fd}`));
    const address = inode === undefined ? undefined : all.get(inode);
    if (inode === undefined || address === undefined) continue;
    // Unix sockets without a file are left out: nobody can be told where they are.
    const isOurs = typeof address === "string"
      ? !address.startsWith("@")
      : !debuggers.has(address.port);
    if (isOurs) found.set(inode, { fd, address });
  }
  return [...found.values()];
}

/** A server of node:net, among what keeps Node from ending. */
type ActiveServer = Server & { readonly _handle?: { readonly fd?: number } | null };

function activeServers(process: NodeProcess): ActiveServer[] {
  // Deprecated in its documentation (DEP0161): `getActiveResourcesInfo` shows no addresses, and
  // cannot close anything.
  const { _getActiveHandles: handles } = process as unknown as {
    _getActiveHandles?: () => unknown[];
  };
  const { Server } = process.getBuiltinModule("node:net");
  return (handles?.call(process) ?? []).filter((handle): handle is ActiveServer =>
    handle instanceof Server && handle.listening
  );
}

/**
 * The listening sockets as Node itself shows them: where there is no /proc, or it may not be read.
 */
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

/** The sockets that a process is started with by systemd, or in systemd's way; sd_listen_fds(3). */
import { formatIPv6 } from "../../src/linux/addresses.ts";
import { hasAllListeners, parseEndpoint, parseSocketInode } from "../../src/linux/proc.ts";
import type { Listener, SocketAdapter, SocketAddress } from "../../src/core/socket_adapter.ts";
import type { Environment } from "./environment.ts";
import { countActivated, FIRST } from "./listen_fds.ts";

/** A socket that this process was started with. */
export interface ActivatedSocket {
  fd: number;
  /** Its name, `unknown` when systemd gives none. */
  name: string;
  /** Its address, or its path; `undefined` where that is not known. */
  address: SocketAddress | string | undefined;
}

/** Links and files of /proc; `undefined` where one cannot be read. */
export interface ProcFiles {
  link(path: string): string | undefined;
  /** Reads a file from its beginning until `enough`. */
  text(path: string, enough: (read: string) => boolean): string | undefined;
}

/** How much of a file is read at once. */
const BLOCK = 2 ** 16;

/** Reads until there is enough, or no more. */
export function readUntil(read: (buffer: Uint8Array) => number | null, enough: (read: string) => boolean): string {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(BLOCK);
  let text = "";
  for (let count; (count = read(buffer)) && !enough(text += decoder.decode(buffer.subarray(0, count), { stream: true })););
  return text;
}

/** The sockets this process was started with. */
export function activatedSockets(count: number, names: string | undefined, proc: ProcFiles): ActivatedSocket[] {
  const named = names?.split(":") ?? [];
  return Array.from({ length: count }, (_, i) => ({ fd: FIRST + i, name: named[i] || "unknown" })).flatMap((socket) => {
    const link = proc.link(`/proc/self/fd/${socket.fd}`);
    const inode = parseSocketInode(link);
    // Another file, when the predecessor had closed the socket.
    if (link !== undefined && inode === undefined) return [];
    return [{ ...socket, address: inode === undefined ? undefined : addressOf(inode, proc) }];
  });
}

/** Finds the address of a socket by its inode; proc_net(5), proc_pid_net(5). */
function addressOf(inode: string, proc: ProcFiles): SocketAddress | string | undefined {
  for (const table of ["tcp", "tcp6"]) {
    for (const line of proc.text(`/proc/self/net/${table}`, hasAllListeners)?.split("\n") ?? []) {
      const fields = line.trim().split(/\s+/);
      if (fields[9] === inode && fields[1] !== undefined) return parseAddress(fields[1]);
    }
  }
  for (const line of proc.text("/proc/self/net/unix", () => false)?.split("\n") ?? []) {
    const fields = line.trim().split(/\s+/);
    if (fields[6] === inode) return fields[7];
  }
  return undefined;
}

/** An address in the form of node:net. */
export function parseAddress(field: string): SocketAddress {
  const { bytes, port } = parseEndpoint(field);
  return bytes.length === 4
    ? { address: bytes.join("."), family: "IPv4", port }
    : { address: formatIPv6(bytes), family: "IPv6", port };
}

/** The part of an adapter for the sockets that this process was started with. */
export interface Activation extends Pick<SocketAdapter, "activated" | "listen"> {
  /** The descriptors that a new process inherits under the same numbers: those that this process has not closed. */
  inherit(): (number | "ignore")[];
}

/** Wraps `listen`, to know which of the sockets are closed later. */
export function createActivation(
  env: Environment,
  pid: number,
  isSuccessor: boolean,
  listen: SocketAdapter["listen"],
  openProc: () => ProcFiles,
): Activation {
  const count = countActivated(env, pid, isSuccessor);
  let sockets: ActivatedSocket[] | undefined;
  const listeners = new Map<number, Listener>();

  function find(): ActivatedSocket[] {
    return count === 0 ? [] : activatedSockets(count, env.LISTEN_FDNAMES, openProc());
  }
  return {
    get activated() {
      return sockets ??= find();
    },
    async listen(server, source) {
      const listener = await listen(server, source);
      if ("fd" in source) listeners.set(source.fd, listener);
      return listener;
    },
    // A descriptor that was closed may belong to another file by now.
    inherit: () =>
      Array.from({ length: count }, (_, i) => {
        const fd = FIRST + i;
        const isThere = (sockets ??= find()).some((socket) => socket.fd === fd);
        return isThere && listeners.get(fd)?.isOpen !== false ? fd : "ignore";
      }),
  };
}

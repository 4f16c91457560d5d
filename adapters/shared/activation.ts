/** The sockets that a process is started with by systemd, or in systemd's way; sd_listen_fds(3). */
import { parseSocketInode } from "../../src/linux/proc.ts";
import type { Listener, SocketAdapter, SocketAddress } from "../../src/core/socket_adapter.ts";
import type { Environment } from "./environment.ts";
import { listeningAddresses, type ProcFiles } from "./own_sockets.ts";
import { countActivated, FIRST } from "./listen_fds.ts";

/** A socket that this process was started with. */
export interface ActivatedSocket {
  fd: number;
  /** Its name, `unknown` when systemd gives none. */
  name: string;
  /** Its address, or its path; `undefined` where that is not known. */
  address: SocketAddress | string | undefined;
}

/** The sockets this process was started with. */
function activatedSockets(
  count: number,
  names: string | undefined,
  proc: ProcFiles,
): ActivatedSocket[] {
  const named = names?.split(":") ?? [];
  const addresses = listeningAddresses(proc);
  return Array.from({ length: count }, (_, i) => ({ fd: FIRST + i, name: named[i] || "unknown" }))
    .flatMap((socket) => {
      const link = proc.link(`/proc/self/fd/${socket.fd}`);
      const inode = parseSocketInode(link);
      // Another file, when the predecessor had closed the socket.
      if (link !== undefined && inode === undefined) return [];
      return [{ ...socket, address: inode === undefined ? undefined : addresses.get(inode) }];
    });
}

/** The part of an adapter for the sockets that this process was started with. */
export interface Activation extends Pick<SocketAdapter, "activated" | "listen"> {
  /**
   * The descriptors that a new process inherits under the same numbers: those that this process has
   * not closed.
   */
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

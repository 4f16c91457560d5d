/** The listening sockets of native servers: which descriptors they have, and putting another socket below them. */
import type { Files } from "../core/files.ts";
import type { AdoptedServer } from "../core/native.ts";
import type { Libc } from "../core/socket_adapter.ts";
import { type ListeningFile, listeningFiles } from "../linux/opened_listeners.ts";
import { socketInode } from "../linux/proc_files.ts";
import type { SocketScan } from "../linux/socket_scan.ts";
import { replaceFile, replaceUnpolled } from "../linux/transplant.ts";

/** A server, and its socket. */
export interface FoundServer {
  readonly server: AdoptedServer;
  readonly file: ListeningFile;
}

/** The sockets of all adopted servers. */
export interface NativeListeners {
  /** The servers that listen, and whose socket can be told from others. */
  findAll(libc: Libc, scan: SocketScan): FoundServer[];
  /** Puts a socket below a server, which accepts from it at once. The descriptor is closed. Throws where that is not possible. */
  put(libc: Libc, scan: SocketScan, server: AdoptedServer, fd: number): void;
}

/** Knows which socket is whose, also when a server did not open it itself. */
export function createNativeListeners(
  servers: readonly AdoptedServer[],
  files: () => Pick<Files, "remove">,
  warn: (message: string) => void,
): NativeListeners {
  /** The sockets of servers that did not open them themselves. */
  const inodes = new Map<AdoptedServer, number>();

  /** The socket of a server; `undefined` where the application has stopped it, or it cannot be told from others. */
  function find(
    libc: Libc,
    files: readonly ListeningFile[],
    server: AdoptedServer,
  ): ListeningFile | undefined {
    const inode = inodes.get(server);
    const [file, ...others] = files.filter((file) => {
      if (inode !== undefined) return file.inode === inode;
      const { localPort } = file.socket;
      return typeof server.own === "number" ? localPort === server.own : file.socket.local()?.name === server.own;
    });
    if (others.length > 0) {
      warn(
        `which socket is that of ${server.key} cannot be told: ${
          others.length + 1
        } have its port. A reload may lose connections`,
      );
      return undefined;
    }
    if (file !== undefined) {
      inodes.set(server, socketInode(libc, file.polled[0] ?? -1) ?? file.inode);
    }
    return file;
  }

  function findAll(libc: Libc, scan: SocketScan): FoundServer[] {
    const files = listeningFiles(libc, scan).filter(({ polled }) => polled.length > 0);
    return servers.flatMap((server) => {
      const file = find(libc, files, server);
      return file === undefined ? [] : [{ server, file }];
    });
  }

  /** Puts a socket below a server, which accepts from it at once. The descriptor is closed. */
  function put(libc: Libc, scan: SocketScan, server: AdoptedServer, fd: number): void {
    const file = find(libc, listeningFiles(libc, scan), server);
    const inode = socketInode(libc, fd);
    const refusals = file === undefined ? ["its own socket is not found"] : [
      ...file.polled.map((own) => replaceFile(libc, scan, own, fd)),
      ...file.unpolled.map((own) => replaceUnpolled(libc, scan, own, file.inode, fd)),
    ];
    libc.close(fd);
    if (inode !== undefined) inodes.set(server, inode);
    const [why] = refusals.filter((refusal) => refusal !== undefined);
    if (why !== undefined) {
      throw new Error(`${server.key} accepts no connections: ${why}. Start the program again`);
    }
    if (typeof server.own === "string") files().remove(server.own);
  }

  return { findAll, put };
}

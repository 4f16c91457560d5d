/**
 * A simulated machine for the simulated world: files, listening sockets, systemd. All handovers of
 * the library run on it.
 */
import { EventEmitter } from "node:events";
import type { Adapter } from "../../src/core/adapter.ts";
import type { Files } from "../../src/core/files.ts";
import type { ServiceAdapter } from "../../src/core/service_adapter.ts";
import type { Listener, SocketAdapter } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { createSimulatedDatagrams, type SimulatedDatagrams } from "./datagrams.ts";
import type { SimulatedProcess } from "./world.ts";

/** A server without connections. */
export function createServer(): BindableServer {
  return new (class extends EventEmitter {
    address(): unknown {
      return null;
    }
    listen(): void {}
    getConnections(): void {}
  })();
}

/** A listening socket. */
interface KernelSocket {
  readonly port: number;
  /** The processes that have it open, and how many of their servers accept from it. */
  readonly holders: Map<number, { accepting: number; retained: number }>;
}

interface File {
  kind: "socket" | "other";
  text: string;
  mode: number;
  /** The process whose server accepts on it. */
  server?: number;
}

/** A machine with all that processes share. */
export interface Machine {
  readonly files: Map<string, File>;
  /** The messages to systemd, in order: the pid of the sender, and the variables. */
  readonly notified: { pid: number; variables: readonly string[] }[];
  /** The parts of a process's adapter. */
  adapter(process: SimulatedProcess): Pick<Adapter, "sockets" | "service">;
  /** A process has ended. */
  end(process: SimulatedProcess, byItself: boolean): void;
  /** The processes that accept connections on a port, and those that keep its socket. */
  listening(port: number): { accepting: number[]; retained: number[] };
  /** The processes that have the datagram socket of a port, and those that read from it. */
  readonly datagramsAt: SimulatedDatagrams["at"];
  /** Serves a unix socket at a name, as a runtime's own server does. */
  serveAt(path: string, pid: number): void;
}

/** An empty machine. The variables are those of every process. */
export function createMachine(
  isAlive: (pid: number) => boolean,
  variables: Readonly<Record<string, string>>,
): Machine {
  const files = new Map<string, File>();
  const sockets = new Set<KernelSocket>();
  const exits = new Map<number, (() => void)[]>();
  const notified: Machine["notified"] = [];
  const datagrams = createSimulatedDatagrams();

  function share(socket: KernelSocket, pid: number) {
    const holder = socket.holders.get(pid) ?? { accepting: 0, retained: 0 };
    socket.holders.set(pid, holder);
    // The kernel keeps a socket that is on its way, also when its sender has died.
    sockets.add(socket);
    return holder;
  }

  function tidy(): void {
    for (const socket of sockets) {
      for (const [pid, { accepting, retained }] of socket.holders) {
        if (accepting + retained === 0) socket.holders.delete(pid);
      }
      if (socket.holders.size === 0) sockets.delete(socket);
    }
  }

  function listen(pid: number, socket: KernelSocket): Listener {
    share(socket, pid).accepting++;
    let isOpen = true;
    return {
      handle: socket,
      rawHandle: socket,
      get isOpen() {
        return isOpen;
      },
      address: { address: "127.0.0.1", family: "IPv4", port: socket.port },
      close() {
        if (!isOpen) return;
        isOpen = false;
        const holder = socket.holders.get(pid);
        if (holder !== undefined) holder.accepting--;
        tidy();
      },
    };
  }

  function socketAdapter(pid: number): SocketAdapter {
    return {
      async listen(_, source) {
        await Promise.resolve();
        if ("handle" in source) {
          const socket = source.handle as KernelSocket;
          const holder = share(socket, pid);
          if (holder.retained > 0) holder.retained--; // The retained one becomes the server's.
          return listen(pid, socket);
        }
        const port = "options" in source ? Number(source.options.port) : 0;
        if ([...sockets].some((socket) => socket.port === port)) {
          throw Object.assign(new Error(`EADDRINUSE: ${port}`), { code: "EADDRINUSE" });
        }
        const socket: KernelSocket = { port, holders: new Map() };
        sockets.add(socket);
        return listen(pid, socket);
      },
      retain(handle) {
        if (handle === undefined) return undefined;
        const socket = handle as KernelSocket;
        share(socket, pid).retained++;
        return {
          source: { handle },
          release() {
            const holder = socket.holders.get(pid);
            if (holder !== undefined && holder.retained > 0) holder.retained--;
            tidy();
          },
        };
      },
      activated: [],
      files: () => operations,
      isServed: (path) => Promise.resolve(isAlive(files.get(path)?.server ?? 0)),
      descriptors: () => undefined,
      listening: () => undefined,
      stopListening: () => false,
      datagrams: datagrams.adapter(pid),
    };
  }

  const get = (path: string): File => {
    const file = files.get(path);
    if (file === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: "ENOENT" });
    return file;
  };
  const operations: Files = {
    read: (path) => files.get(path)?.text,
    modified: () => undefined,
    replace: (path, text, mode = 0o600) => void files.set(path, { kind: "other", text, mode }),
    create(path) {
      if (files.has(path)) return false;
      files.set(path, { kind: "other", text: "", mode: 0o600 });
      return true;
    },
    list: (folder) =>
      [...files.keys()].filter((path) => path.startsWith(`${folder}/`)).map((path) =>
        path.slice(folder.length + 1)
      ),
    kind: (path) => files.get(path)?.kind ?? "nothing",
    access: (path) => ({ uid: 0, gid: 0, mode: get(path).mode }),
    chown() {},
    chmod: (path, mode) => void (get(path).mode = mode),
    link: (from, to) => void files.set(to, get(from)),
    rename(from, to) {
      files.set(to, get(from));
      files.delete(from);
    },
    remove: (path) => void files.delete(path),
  };
  function serviceAdapter(process: SimulatedProcess): ServiceAdapter {
    return {
      supervisor: undefined,
      variable: (name) => variables[name],
      files: () => operations,
      runtimeFolder: () => "/run/user",
      errorOutput: () => undefined,
      releaseLink: () => undefined,
      isAlive,
      parent: () => process.parent?.pid ?? 1,
      startTime: (pid) => `start of ${pid}`,
      onExit: (handler) => void exits.set(process.pid, [...exits.get(process.pid) ?? [], handler]),
      async execute(_, variables) {
        await Promise.resolve();
        if (process.exit === undefined) notified.push({ pid: process.pid, variables });
      },
      connect: () => Promise.reject(new Error("nobody listens")),
      every: () => () => {},
    };
  }

  return {
    files,
    notified,
    adapter: (process) => ({
      sockets: socketAdapter(process.pid),
      service: serviceAdapter(process),
    }),
    end({ pid }, byItself) {
      if (byItself) { for (const handler of exits.get(pid) ?? []) handler(); }
      for (const socket of sockets) socket.holders.delete(pid);
      tidy();
      datagrams.end(pid);
    },
    datagramsAt: datagrams.at,
    listening(port) {
      const holders = [...sockets].filter((socket) => socket.port === port).flatMap((
        { holders },
      ) => [...holders]);
      return {
        accepting: holders.filter(([, { accepting }]) => accepting > 0).map(([pid]) => pid),
        retained: holders.filter(([, { retained }]) => retained > 0).map(([pid]) => pid),
      };
    },
    serveAt: (path, pid) =>
      void files.set(path, { kind: "socket", text: "", mode: 0o755, server: pid }),
  };
}

/**
 * How datagram sockets pass on Bun and Deno, on Linux: as descriptors, and their reading is
 * suspended in the epoll instance.
 */
import type { DatagramAdapter, DatagramSocket } from "../../src/core/datagrams.ts";
import type { InheritedAddress } from "../../src/core/native.ts";
import type { SharedSocket } from "../../src/core/shared_socket.ts";
import type { Libc } from "../../src/core/socket_adapter.ts";
import { SOCK_CLOEXEC, SOCK_DGRAM } from "../../src/linux/constants.ts";
import { parsePlace, placeOf, receiveAt } from "../../src/linux/places.ts";
import { pollAgain, stopPolling, type Unpolled } from "../../src/linux/polling.ts";
import { socketInode } from "../../src/linux/proc_files.ts";
import { type OpenSocket, scanSockets, type SocketScan } from "../../src/linux/socket_scan.ts";
import { duplicate, putBelow } from "../../src/linux/transplant.ts";
import { ifUsable } from "./libc.ts";
import type { Aside } from "./node_datagrams.ts";

/** The descriptors of this process, as a socket sees them that does not know its own. */
export interface DescriptorSearch {
  /**
   * The datagram socket that is bound to an address; `undefined` where there are none, or several.
   */
  boundTo(hostname: string, port: number): number | undefined;
  /** Another descriptor of the same socket: the one that is polled, where there is one. */
  otherOf(fd: number): number | undefined;
  /** Whether two descriptors have the same socket. */
  isSame(a: number, b: number): boolean;
  /** Closes a descriptor. */
  close(fd: number): void;
}

/** A datagram socket, as its runtime has it. */
export interface DescriptorSocket extends DatagramSocket {
  /** The descriptor that the runtime polls. */
  descriptor(search: DescriptorSearch): number | undefined;
  /**
   * How it is opened. Absent where it has a socket of its own from the start, which is replaced.
   */
  readonly later?: {
    on(shared: SharedSocket, aside: Aside): void;
    anew(inherited: InheritedAddress): Promise<void>;
  } | undefined;
  /**
   * Keeps a runtime from reading on that reads as long as there is something, whether it is polled
   * or not.
   */
  hold?(isHeld: boolean): void;
  /** It is open on the predecessor's socket. */
  replaced?(aside: Aside): void;
}

/** What differs between the runtimes. */
export interface DescriptorRuntime {
  libc(): Libc | string;
  /** Why the C library cannot be called, and what to do about it. */
  refusal(): string | undefined;
  bindable: DatagramAdapter["bindable"];
}

/** A search, and the scan that it has made. It is right until a descriptor is replaced. */
function createSearch(libc: Libc): DescriptorSearch & { scan(): SocketScan } {
  let scanned: SocketScan | undefined;
  /** Not before it is needed: there may be thousands of sockets. */
  const scan = () => scanned ??= scanSockets(libc);
  function datagramSockets() {
    return [...scan().sockets.values()].flatMap((socket) => {
      if (socket.kind !== "datagram") return [];
      const inode = socketInode(libc, socket.fd);
      const isPolled = scan().registrations(socket.fd).some((registration) =>
        registration.inode === inode
      );
      return [{ ...socket, inode, isPolled }];
    });
  }
  return {
    scan,
    boundTo(hostname, port) {
      const there = datagramSockets().filter(({ isPolled, localPort }) =>
        isPolled && localPort === port
      );
      const isExact = ({ local }: OpenSocket) => local()?.host === hostname;
      const [one, ...others] = there.length > 1 ? there.filter(isExact) : there;
      return others.length === 0 ? one?.fd : undefined;
    },
    isSame: (a, b) => socketInode(libc, a) === socketInode(libc, b),
    otherOf(fd) {
      const inode = socketInode(libc, fd);
      const same = datagramSockets().filter((socket) => socket.inode === inode && socket.fd !== fd);
      return (same.find(({ isPolled }) => isPolled) ?? same[0])?.fd;
    },
    close: (fd) => void libc.close(fd),
  };
}

/**
 * The registration with the old file lives on beside its other descriptor, and is valid again as
 * soon as that is back.
 */
function callAside<T>(libc: Libc, fd: number, call: () => T): T {
  const family = placeOf(libc, fd)?.address[0] ?? 0; // sa_family_t, little-endian
  const other = libc.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const own = duplicate(libc, fd);
  const isReplaced = own >= 0 && other >= 0 && libc.dup3(other, fd, SOCK_CLOEXEC) === fd;
  try {
    return call();
  } finally {
    if (isReplaced) libc.dup3(own, fd, SOCK_CLOEXEC);
    for (const each of [own, other]) if (each >= 0) libc.close(each);
  }
}

/** The datagram sockets of a runtime whose C library can be called. */
export function descriptorDatagrams(runtime: DescriptorRuntime): DatagramAdapter {
  return new DescriptorDatagrams(runtime);
}

class DescriptorDatagrams implements DatagramAdapter {
  readonly sendsHandles = false;
  readonly refusal: DatagramAdapter["refusal"];
  readonly bindable: DatagramAdapter["bindable"];
  readonly #load: DescriptorRuntime["libc"];
  readonly #suspended = new WeakMap<DatagramSocket, Unpolled>();

  constructor({ libc, refusal, bindable }: DescriptorRuntime) {
    this.#load = libc;
    this.refusal = refusal;
    this.bindable = bindable;
  }

  share(socket: DatagramSocket): SharedSocket | undefined {
    const found = this.#find(socket);
    return found && { fd: found.fd };
  }

  place(socket: DatagramSocket): unknown {
    const found = this.#find(socket);
    return found && placeOf(found.libc, found.fd);
  }

  open(socket: DatagramSocket, shared: SharedSocket): void {
    const own = socket as DescriptorSocket;
    const aside: Aside = (call) => {
      const found = this.#find(socket);
      return found === undefined ? call() : callAside(found.libc, found.fd, call);
    };
    if (own.later !== undefined) own.later.on(shared, aside);
    else this.#put(own, (shared as { fd: number }).fd);
    const refusal = this.suspend(socket); // In the same turn: nothing has been read.
    if (refusal !== undefined) throw new Error(`${socket.key} cannot wait: ${refusal}`);
    own.replaced?.(aside);
  }

  async openAnew(socket: DatagramSocket, inherited: InheritedAddress): Promise<void> {
    const own = socket as DescriptorSocket;
    if (own.later !== undefined) return await own.later.anew(inherited);
    const libc = ifUsable(this.#load());
    const place = parsePlace(inherited.place);
    const fd = libc && place && receiveAt(libc, place);
    if (fd === undefined) {
      throw Object.assign(new Error(`${socket.key} cannot be opened`), { code: "EADDRINUSE" });
    }
    this.#put(own, fd);
    own.replaced?.((call) => call());
  }

  discard(shared: SharedSocket): void {
    if ("fd" in shared) ifUsable(this.#load())?.close(shared.fd);
  }

  suspend(socket: DatagramSocket): string | undefined {
    const found = this.#find(socket);
    if (found === undefined) return "its descriptor is not found";
    (socket as DescriptorSocket).hold?.(true);
    const unpolled = stopPolling(found.libc, found.scan(), found.fd);
    if (typeof unpolled === "object") this.#suspended.set(socket, unpolled);
    else (socket as DescriptorSocket).hold?.(false);
    return typeof unpolled === "string" ? unpolled : undefined;
  }

  resume(socket: DatagramSocket): string | undefined {
    const libc = ifUsable(this.#load());
    const unpolled = this.#suspended.get(socket);
    if (libc === undefined || unpolled === undefined) return undefined;
    this.#suspended.delete(socket);
    const refusal = pollAgain(libc, unpolled);
    (socket as DescriptorSocket).hold?.(false);
    return refusal;
  }

  #find(socket: DatagramSocket): { libc: Libc; fd: number; scan(): SocketScan } | undefined {
    const libc = ifUsable(this.#load());
    if (libc === undefined) return undefined;
    const search = createSearch(libc);
    const fd = (socket as DescriptorSocket).descriptor(search);
    return fd === undefined ? undefined : { libc, fd, scan: search.scan };
  }

  #put(socket: DescriptorSocket, by: number): void {
    const found = this.#find(socket);
    if (found === undefined) this.discard({ fd: by });
    const refusal = found === undefined
      ? "its own socket is not found"
      : putBelow(found.libc, found.scan(), found.fd, by);
    if (refusal !== undefined) {
      throw new Error(`${socket.key} receives nothing: ${refusal}. Start the program again`);
    }
  }
}

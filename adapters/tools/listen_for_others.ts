/** Listening sockets that this process only keeps: nobody accepts from them here. */
import { spawn } from "node:child_process";
import { lookup } from "node:dns/promises";
import { isIPv6 } from "node:net";
import process from "node:process";
import type { Libc } from "../../src/core/socket_adapter.ts";
import { AF_INET, AF_INET6 } from "../../src/linux/constants.ts";
import { listenAt } from "../../src/linux/places.ts";

/** A socket, and its descriptor in this process. */
export interface KeptSocket {
  readonly fd: number;
  close(): void;
}

/** Where to listen. */
export interface SocketRequest {
  /** Default: all addresses, of IPv6 and IPv4. */
  readonly host: string | undefined;
  readonly port: number;
}

/** The first version of Node that lets sockets share a port. */
const SHARING_NODE = [23, 1] as const;

/**
 * Node has no call that listens without accepting: another process listens, sends the socket, and
 * ends before it reads from it.
 */
const HELPER = `
const where = JSON.parse(process.argv[1]);
const server = require("node:net").createServer();
server.on("error", ({ message }) => process.send({ message }, () => process.exit(1)));
server.listen(where, () => process.send({}, server._handle, () => process.exit()));
`;

/** A socket that came from another process, as Node has it. */
interface RawSocket {
  readonly fd: number;
  close(): void;
}

function listenByHelper(request: SocketRequest, reusePort: boolean): Promise<KeptSocket> {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (
    reusePort && (major < SHARING_NODE[0] || (major === SHARING_NODE[0] && minor < SHARING_NODE[1]))
  ) {
    return Promise.reject(
      new Error(
        `for several instances it takes Node ${
          SHARING_NODE.join(".")
        } or later, not ${process.version}`,
      ),
    );
  }
  return new Promise((resolve, reject) => {
    const env = { ...process.env, NODE_OPTIONS: undefined };
    const child = spawn(
      process.execPath,
      ["-e", HELPER, JSON.stringify({ ...request, reusePort })],
      {
        env,
        stdio: ["ignore", "ignore", "inherit", "ipc"],
      },
    );
    child.once("message", ({ message }: { message?: string }, handle: unknown) => {
      if (message !== undefined) return reject(new Error(message));
      const socket = handle as RawSocket;
      resolve({ fd: socket.fd, close: () => socket.close() });
    });
    child.once("error", reject);
    child.once("exit", () => reject(new Error("the process that listens has ended")));
  });
}

/** The bytes of a struct sockaddr_in or sockaddr_in6. */
function socketAddress(address: string, port: number): number[] {
  const network = [port >> 8, port & 255];
  if (!isIPv6(address)) {
    return [AF_INET, 0, ...network, ...address.split(".").map(Number), ...Array(8).fill(0)];
  }
  const [head = "", tail = ""] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const words = (text: string) =>
    text === "" ? [] : text.split(":").map((word) => parseInt(word, 16));
  const [first, last] = [words(head), words(tail)];
  const all = [...first, ...Array(8 - first.length - last.length).fill(0), ...last];
  return [
    AF_INET6,
    0,
    ...network,
    0,
    0,
    0,
    0,
    ...all.flatMap((word) => [word >> 8, word & 255]),
    0,
    0,
    0,
    0,
  ];
}

async function listenByLibc(
  libc: Libc,
  { host, port }: SocketRequest,
  reusePort: boolean,
): Promise<KeptSocket> {
  const addresses = host === undefined ? ["::", "0.0.0.0"] : [(await lookup(host)).address];
  for (const address of addresses) {
    const fd = listenAt(libc, {
      address: socketAddress(address, port),
      ipv6Only: false,
      reusePort,
    });
    if (fd !== undefined) return { fd, close: () => void libc.close(fd) };
  }
  throw new Error(
    "the address is in use, is not one of this machine, or may not be listened on by this user",
  );
}

/**
 * Listens. Rejects when that is not possible.
 *
 * @param reusePort Whether several sockets are to share the port. Processes that run at the same
 * time need one each: a socket that one of them makes block, as Deno 2.9 does with those that it
 * passes on, would block the others in accept(2).
 */
export async function listenForOthers(
  request: SocketRequest,
  reusePort: boolean,
): Promise<KeptSocket> {
  const libc = await loadLibc();
  if (typeof libc === "object") return await listenByLibc(libc, request, reusePort);
  if (libc !== undefined) throw new Error(libc);
  return await listenByHelper(request, reusePort);
}

/** The C library, or why it cannot be called; `undefined` on Node. */
async function loadLibc(): Promise<Libc | string | undefined> {
  const { Deno, Bun } = globalThis as { Deno?: unknown; Bun?: unknown };
  if (Deno === undefined && Bun === undefined) return undefined;
  if (process.platform !== "linux") {
    return "Deno and Bun can do this on Linux only; start reload-self with Node";
  }
  if (Bun !== undefined) return (await import("../bun/libc.ts")).bunLibc();
  const { denoLibc } = await import("../deno/libc.ts");
  return denoLibc(Deno as Parameters<typeof denoLibc>[0], true);
}

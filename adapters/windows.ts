/** What is different on Windows, on all three runtimes. */
import type { Server } from "node:net";
import type { Listener, ListenSource } from "../core/socket_adapter.ts";
import type { BindableServer } from "../core/token.ts";
import { listenDirectly } from "./node_sockets.ts";

/** Questions are short: whoever says more is not one of ours. */
const LONGEST = 1_024;

/**
 * Answers questions on a named pipe. Windows lets only this user, the administrators and the system write to it; CreateNamedPipe.
 */
export async function answerOnPipe(name: string, answer: (question: string) => Promise<string>): Promise<void> {
  const { createServer } = await import("node:net");
  const server = createServer((socket) => {
    let text = "";
    socket.setEncoding("utf8");
    socket.on("error", () => {}); // It is gone: nobody to answer.
    socket.on("data", async (data: string) => {
      const before = text;
      text += data;
      if (text.length > LONGEST) return socket.destroy();
      if (before.includes("\n") || !text.includes("\n")) return;
      socket.end(`${await answer(text.slice(0, text.indexOf("\n")))}\n`);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(`\\\\.\\pipe\\${name}`, resolve);
  });
  server.unref();
}

/** How many connections libuv lets the kernel accept ahead of a process; uv_simultaneous_server_accepts in libuv/src/win/tcp.c. */
const AHEAD = 32;
/** Milliseconds to wait for those. Where so few come, hardly one comes in the very moment of the closing. */
const PATIENCE = 1_000;

/** What of a server's handle is not in its types: whether it lets the kernel accept many connections ahead, or one. */
interface Handle {
  setSimultaneousAccepts?(many: boolean): void;
}

/**
 * Lets a server of Node's listen. When it closes, a connection that the kernel has accepted for this process, and that this one has not
 * heard of, is reset. Right after one was heard of, when nobody else waits, the next is not ours: libuv asks the kernel for one more,
 * behind what the other process that listens on the socket has asked for.
 */
export async function listenAhead(server: BindableServer, source: ListenSource): Promise<Listener> {
  const listener = await listenDirectly(server, source);
  const own = server as unknown as Server & { _handle?: Handle | null };
  // Of a socket that came from another process Node accepts one connection ahead.
  let ahead = "handle" in source ? 1 : AHEAD;
  const letGo = () =>
    new Promise<void>((resolve) => {
      const close = () => {
        clearTimeout(timer);
        own.off("connection", count);
        listener.close();
        resolve();
      };
      const count = () => {
        const heard = --ahead;
        // Whoever waited for their turn is heard of in the next turn of the event loop: of several that come at once, this is the last.
        if (heard <= 0) setImmediate(() => setImmediate(() => heard === ahead && close()));
      };
      // The check phase comes right after all that was accepted has been heard of.
      const timer = setTimeout(() => setImmediate(close), PATIENCE);
      own.prependListener("connection", count);
      own._handle?.setSimultaneousAccepts?.(false);
    });
  return Object.assign(listener, { letGo });
}

/** The folder for status files: below the user's own, which nobody else may look into. */
export function windowsFolder(localAppData: string | undefined, make: (path: string) => unknown): string | undefined {
  if (!localAppData) return undefined;
  const path = `${localAppData}\\reload-self`;
  try {
    make(path);
    return path;
  } catch {
    return undefined;
  }
}

/** The library that has AttachConsole, and its name as Deno and Bun both need it. */
export const KERNEL = "kernel32.dll";

/**
 * Puts a successor on the console of its predecessor, so that CTRL_BREAK reaches it as it reached that one: a detached process is on none.
 * Where there is no console, or no foreign function calls (Node), `reload-self reload` is what remains.
 */
export async function attachConsole(
  parent: number,
  open: () => { AttachConsole(pid: number): number } | Promise<{ AttachConsole(pid: number): number }>,
): Promise<void> {
  try {
    (await open()).AttachConsole(parent);
  } catch {
    // Foreign function calls are not allowed.
  }
}

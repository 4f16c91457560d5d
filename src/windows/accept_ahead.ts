import type { Server } from "node:net";
import type { Listener } from "../core/socket_adapter.ts";

/**
 * How many connections libuv lets the kernel accept ahead of a process;
 * uv_simultaneous_server_accepts in libuv/src/win/tcp.c.
 */
const ACCEPTED_AHEAD = 32;
/**
 * How long to wait for those. Where so few come, hardly one comes in the very moment of the
 * closing.
 */
const QUIET_TIMEOUT_MS = 1_000;

/**
 * Part of a server's handle that its types lack: whether the kernel accepts many connections ahead,
 * or one.
 */
interface Handle {
  setSimultaneousAccepts?(many: boolean): void;
}

/**
 * Lets a listener of Node's close without losing a connection. When it closes, a connection that
 * the kernel has accepted for this process ahead of it is reset. Right after one was reported, when
 * no other waits, the next one is not ours: libuv then asks the kernel for one more, behind what
 * the other process that listens on the socket has asked for.
 *
 * @param isInherited Whether the socket came from another process. Of such a socket Node accepts
 * one connection ahead.
 */
export function closeWhenQuiet(listener: Listener, server: object, isInherited: boolean): Listener {
  const own = server as Server & { _handle?: Handle | null };
  let ahead = isInherited ? 1 : ACCEPTED_AHEAD;
  const letGo = () =>
    new Promise<void>((resolve) => {
      const close = () => {
        clearTimeout(timer);
        own.off("connection", count);
        listener.close();
        resolve();
      };
      const count = () => {
        const reported = --ahead;
        // Connections that waited are reported in the next turn of the event loop: of several that
        // come at once, this is the last.
        if (reported <= 0) setImmediate(() => setImmediate(() => reported === ahead && close()));
      };
      // The check phase comes right after all that was accepted has been reported.
      const timer = setTimeout(() => setImmediate(close), QUIET_TIMEOUT_MS);
      own.prependListener("connection", count);
      own._handle?.setSimultaneousAccepts?.(false);
    });
  return Object.assign(listener, { letGo });
}

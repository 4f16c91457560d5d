import type { Libc } from "../src/core/socket_adapter.ts";
import { bunLibc } from "./bun/libc.ts";
import { bunWebSockets } from "./bun/web_sockets.ts";
import { ifUsable } from "./shared/libc.ts";
import { denoLibc } from "./deno/libc.ts";
import type { DenoNamespace } from "./deno/namespace.ts";
import { createPermissions } from "./deno/permissions.ts";
import { denoWebSockets } from "./deno/web_sockets.ts";
import type { NativeWebSockets } from "./shared/live_web_socket.ts";

/**
 * The WebSockets of this runtime, and its C library: only where it may be called without asking
 * anybody.
 */
export interface WebSocketAdapter {
  readonly sockets: NativeWebSockets;
  libc(): Libc | undefined;
}

/**
 * Whether those of the package ws cannot move: Bun 1.4 has another `ws` of its own, below which no
 * connection of node:net can be had.
 */
export function hasOwnPackage(globals: object = globalThis): boolean {
  return "Bun" in globals;
}

/** The WebSockets of this runtime's own servers; `undefined` where it has none. */
export function detectWebSockets(globals: object = globalThis): WebSocketAdapter | undefined {
  const { Bun, Deno, process } = globals as {
    Bun?: unknown;
    Deno?: DenoNamespace & Parameters<typeof denoWebSockets>[0];
    process?: { platform: string };
  };
  const checked = (isLinux: boolean, open: () => Libc | string) => () =>
    isLinux ? ifUsable(open()) : undefined;
  if (Deno !== undefined) {
    const { mayCall } = createPermissions(Deno);
    return {
      sockets: denoWebSockets(Deno),
      libc: checked(Deno.build.os === "linux", () => denoLibc(Deno, mayCall())),
    };
  }
  if (Bun === undefined) return undefined;
  return { sockets: bunWebSockets, libc: checked(process?.platform === "linux", bunLibc) };
}

/** Connections of node:http that another process takes over, on Deno. */
import type { LiveSocket } from "../../src/core/live.ts";
import type { BindableServer } from "../../src/core/token.ts";

/** Ends the time that a connection has for its first request; `ConnectionsList` in ext/node/polyfills/_http_server.ts of Deno 2.9. */
export function markIdleOnDeno(server: BindableServer, socket: LiveSocket): void {
  const symbol = Object.getOwnPropertySymbols(server).find(({ description }) => description === "http.server.connections");
  const list = (server as unknown as Record<symbol, { popActive?(socket: LiveSocket): void } | undefined>)[symbol ?? Symbol()];
  list?.popActive?.(socket);
}

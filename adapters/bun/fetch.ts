/** The server of Bun.serve, as its handlers see it. */
import type { FetchAdapter, NativeServerView } from "../../src/core/adapter.ts";

/** A server of Bun.serve. */
interface BunServer {
  readonly pendingRequests: number;
  readonly pendingWebSockets: number;
  stop(closeActiveConnections: boolean): unknown;
}

const views = new WeakMap<object, NativeServerView>();

/** Bun gives each handler its server, which counts its requests and can cut them. */
export const bunFetch: FetchAdapter = {
  server(more) {
    if (typeof more !== "object" || more === null) return undefined;
    const known = views.get(more);
    if (known !== undefined || !("pendingRequests" in more && "stop" in more)) return known;
    const server = more as BunServer;
    const view: NativeServerView = {
      get pending() {
        return server.pendingRequests + server.pendingWebSockets;
      },
      cut: () => void server.stop(true),
    };
    views.set(server, view);
    return view;
  },
};

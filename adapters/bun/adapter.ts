import type {
  Adapter,
  FetchAdapter,
  NativeServerView,
  StartAdapter,
} from "../../src/core/adapter.ts";
import { countActivated } from "../shared/listen_fds.ts";
import { startNode } from "../node/adapter.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { bunDatagrams } from "./datagrams.ts";
import { bunListen } from "./listen.ts";
import { bunServe } from "./native.ts";

/** The part of the global `Bun` that is used here. */
export interface BunNamespace {
  readonly serve: unknown;
  readonly listen: unknown;
  readonly udpSocket?: unknown;
  /** `false` in a worker. */
  readonly isMainThread: boolean;
}

/**
 * The adapter for Bun: Node's, with a cheaper way to know the main thread. Bun needs no
 * permissions.
 */
export function createBunAdapter(bun: BunNamespace, process: NodeProcess): StartAdapter {
  const start = startNode(process, "Bun", bun.isMainThread);
  const isShared = (start.handshake.supervisor?.instances ?? 1) > 1;
  const reusePort = process.platform !== "linux" || isShared;
  const { snapshot: { loaded }, handshake: { generation } } = start;
  const activated = process.platform === "linux"
    ? countActivated(loaded, process.pid, generation !== undefined)
    : 0;
  return {
    ...start.adapter,
    native: {
      serve: bunServe(
        bun,
        reusePort,
        activated,
        (name) => process.env[name],
      ),
      listen: bunListen(bun, reusePort),
      datagrams: bunDatagrams(bun),
    },
    fetch: bunFetch,
    loadRest: async (): Promise<Adapter> =>
      (await import("./complete.ts")).completeBunAdapter(start),
  };
}

/** A server of Bun.serve, as its handlers see it. */
interface BunServer {
  readonly pendingRequests: number;
  readonly pendingWebSockets: number;
  stop(closeActiveConnections: boolean): unknown;
}

const views = new WeakMap<object, NativeServerView>();

/** Bun gives each handler its server, which counts its requests and can cut them. */
const bunFetch: FetchAdapter = {
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

import type { BindableServer } from "../core/token.ts";
import type { HttpSocket } from "../drain/keep_alive.ts";

/** A server whose connections can move. */
export interface HttpServer {
  /** Names it in both processes. */
  readonly key: string;
  readonly server: BindableServer & { keepAliveTimeout?: number; keepAliveTimeoutBuffer?: number };
  /** Its connections, as they are at this moment. */
  readonly connections: readonly HttpSocket[];
}

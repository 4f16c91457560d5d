/**
 * Zero-downtime reloads for long-running programs on Deno, Bun and Node. {@linkcode listen} returns a token. SIGHUP (CTRL_BREAK on Windows)
 * starts the program again; when the new process is in charge, the token of the old one is cancelled, so that it finishes its requests and
 * leaves. When the new process fails, the old one goes on.
 *
 * @example
 * ```ts
 * import { listen } from "@js0/reload-self";
 *
 * const token = listen();
 * console.log(`process ${token.generation} is running`);
 * const why = await token.cancelled();
 * console.log("leaving", why);
 * ```
 *
 * @module
 */
import { registry } from "./adapters/registry.ts";
import type { Adapter } from "./core/adapter.ts";
import { checkListenOptions, type ListenOptions, sameOptions } from "./core/options.ts";
import type { Token } from "./core/token.ts";
import { createPidFile } from "./handovers/pid_file.ts";
import { beginProgram } from "./program/begin.ts";
import type { Handover } from "./reload/handover.ts";

export type {
  Adapter,
  BasicAdapter,
  Channel,
  Clock,
  DescriptorChannel,
  ExitStatus,
  FetchAdapter,
  NativeServerView,
  Predecessor,
  StartedProcess,
  StartRequest,
} from "./core/adapter.ts";
export type {
  BindableDatagrams,
  DatagramAdapter,
  DatagramAddress,
  DatagramHost,
  DatagramSocket,
  NativeDatagrams,
} from "./core/datagrams.ts";
export { ReloadError, type ReloadErrorCode, type ReloadErrorDetails } from "./core/error.ts";
export type { Logger, ReloadCause, ReloadEvent } from "./core/event.ts";
export type {
  BasicServiceAdapter,
  CheckOrder,
  ErrorOutput,
  ReleaseLink,
  ServiceAdapter,
  Supervisor,
} from "./core/service_adapter.ts";
export type { Live, LiveHandlers, LiveSocket, SocketListener } from "./core/live.ts";
export type {
  ActivatedAddress,
  AdoptedServer,
  InheritedAddress,
  NativeAddress,
  NativeConnections,
  NativeHost,
  NativeServe,
  Placement,
  ServedApp,
  ServedAt,
  ServeFunction,
} from "./core/native.ts";
export type { FileAccess, Files } from "./core/files.ts";
export type { ListenOptions } from "./core/options.ts";
export type { SharedSocket } from "./core/shared_socket.ts";
export type {
  ConnectionAdapter,
  HeldSocket,
  Http1View,
  IdleTaker,
  Libc,
  Listener,
  ListenSource,
  OwnSocket,
  SocketAdapter,
  SocketAddress,
} from "./core/socket_adapter.ts";
export type {
  BindableServer,
  BindOptions,
  CancellationToken,
  CancelReason,
  Drained,
  DrainOptions,
  FetchHandler,
  ReloadReason,
  ShutdownReason,
  TaskFailure,
  Token,
  TrackOptions,
  WebSocketLike,
} from "./core/token.ts";

/**
 * Makes this program reload itself on SIGHUP (CTRL_BREAK on Windows), and returns the token that is cancelled when the program has to finish.
 * Call it once, as early as possible; a later call without options returns the same token.
 *
 * On platforms without signals or processes, and in worker threads, the program cannot reload: `token.canReload` is `false`.
 *
 * @param options Everything has a default.
 * @returns The token of this process.
 * @throws {TypeError} When an option is wrong, or not the same as in an earlier call; the message names it.
 * @throws {ReloadError} When a signal handler cannot be set.
 *
 * @example
 * ```ts
 * import { listen } from "@js0/reload-self";
 *
 * const token = listen({ logger: console });
 * token.track(async (signal) => {
 *   while (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 100));
 * });
 * const why = await token.cancelled();
 * const { complete } = await token.drained({ timeout: 10_000 });
 * console.log(why.kind, complete);
 * ```
 */
export function listen(options: ListenOptions = {}): Token {
  const { listening } = registry;
  const adapter = options?.adapter ?? registry.adapter;
  checkListenOptions(options, adapter);
  if (listening !== undefined) {
    const names = Object.keys(options);
    if (listening.inside.isAuto) {
      if (names.length > 0) listening.inside.ignored?.(names);
    } else if (names.length > 0 && !sameOptions(options, listening.options)) {
      throw new TypeError("listen: it was called before with other options; call it once, or without options to get the token");
    }
    return listening.token;
  }
  let pidFile: Handover | undefined;
  const { token, ...inside } = beginProgram(adapter, options, {
    prepare(beginning) {
      pidFile = createPidFile(adapter.service, beginning);
    },
    async load() {
      const [{ completeProgram }, complete] = await Promise.all([import("./handovers/assemble.ts"), completed(options)]);
      return (beginning) => completeProgram(complete, beginning, pidFile);
    },
    onDispose() {
      registry.listening = undefined;
    },
  });
  registry.listening = { token, options, inside: { ...inside, isAuto: false } };
  return token;
}

async function completed({ adapter }: ListenOptions): Promise<Adapter> {
  return adapter ?? await registry.adapter.complete();
}

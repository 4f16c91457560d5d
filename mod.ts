/**
 * Zero-downtime reloads for long-running programs on Deno, Bun and Node. {@linkcode listen} returns
 * a token. SIGHUP (CTRL_BREAK on Windows) starts the program again; when the new process is in
 * charge, the token of the old one is cancelled, so that it finishes its requests and leaves. When
 * the new process fails, the old one goes on.
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
import type { Adapter } from "./src/core/adapter.ts";
import { checkListenOptions, type ListenOptions, sameOptions } from "./src/core/options.ts";
import type { Token } from "./src/core/token.ts";
import { beginProgram } from "./src/program/begin.ts";

export { ReloadError, type ReloadErrorCode, type ReloadErrorDetails } from "./src/core/error.ts";
export type { Logger, ReloadCause, ReloadEvent } from "./src/core/event.ts";
export type { Live, LiveHandlers } from "./src/core/live.ts";
export type { ServeFunction } from "./src/core/native.ts";
export type { ListenOptions } from "./src/core/options.ts";
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
} from "./src/core/token.ts";

/**
 * Makes this program reload itself on SIGHUP (CTRL_BREAK on Windows), and returns the token that is
 * cancelled when the program has to finish. Call it once, as early as possible; a later call
 * without options returns the same token.
 *
 * On platforms without signals or processes, and in worker threads, the program cannot reload:
 * `token.canReload` is `false`.
 *
 * @param options Everything has a default.
 * @returns The token of this process.
 * @throws {TypeError} When an option is wrong, or not the same as in an earlier call; the message
 * names it.
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
      throw new TypeError(
        "listen: it was called before with other options; call it once, or without options to get the token",
      );
    }
    return listening.token;
  }
  const { token, ...inside } = beginProgram(adapter, options, {
    async load() {
      const [{ composeProgram }, complete] = await Promise.all([
        import("./src/program/compose.ts"),
        completed(options),
      ]);
      return (beginning) => composeProgram(complete, beginning);
    },
    onDispose() {
      registry.listening = undefined;
    },
  });
  registry.listening = { token, options, inside: { ...inside, isAuto: false } };
  return token;
}

async function completed({ adapter }: ListenOptions): Promise<Adapter> {
  return adapter ?? await registry.adapter.loadRest();
}

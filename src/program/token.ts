import type { CancellationToken, Token } from "../core/token.ts";

/** What makes a cancellation token the token of a program. */
export interface TokenExtension extends
  Pick<
    Token,
    | "generation"
    | "canReload"
    | "ready"
    | "reload"
    | "adopt"
    | "bind"
    | "fetch"
    | "live"
    | "path"
    | "webSocket"
  > {
  inheritedState(): Promise<unknown>;
  dispose(): Promise<void>;
}

/**
 * Makes the token that the application gets.
 *
 * @param onWatch Called when the application uses what lets it, or its servers, notice the
 * cancellation.
 */
export function extendToken(
  token: CancellationToken,
  onWatch: () => void,
  extension: TokenExtension,
): Token {
  const {
    generation,
    canReload,
    ready,
    reload,
    adopt,
    bind,
    fetch,
    live,
    path,
    webSocket,
    inheritedState,
    dispose,
  } = extension;
  // The types are those of the member.
  // deno-lint-ignore no-explicit-any
  const watching = <F extends (...args: any[]) => unknown>(member: F): F =>
    ((...args) => {
      onWatch();
      return member(...args);
    }) as F;
  return {
    get signal() {
      onWatch();
      return token.signal;
    },
    get isCancelled() {
      onWatch();
      return token.isCancelled;
    },
    get inheritedState() {
      return inheritedState();
    },
    generation,
    canReload,
    ready,
    reload,
    cancel: token.cancel,
    cancelled: watching(token.cancelled),
    child: watching(token.child),
    track: watching(token.track),
    drained: watching(token.drained),
    adopt: watching(adopt),
    bind: watching(bind),
    fetch: watching(fetch),
    live: watching(live),
    path: watching(path),
    webSocket: watching(webSocket),
    [Symbol.asyncDispose]: watching(dispose),
  };
}

import type { CancellationToken, Token } from "../core/token.ts";

/** What makes a cancellation token the token of a program. */
export interface TokenExtension
  extends
    Pick<Token, "generation" | "canReload" | "ready" | "reload" | "adopt" | "bind" | "fetch" | "live" | "path" | "webSocket"> {
  inherited(): Promise<unknown>;
  dispose(): Promise<void>;
}

/** Makes the token that the application gets. */
export function extendToken(token: CancellationToken, { inherited, dispose, ...own }: TokenExtension): Token {
  const { cancelled, cancel, child, track, drained } = token;
  return {
    get signal() {
      return token.signal;
    },
    get isCancelled() {
      return token.isCancelled;
    },
    get inherited() {
      return inherited();
    },
    cancelled,
    cancel,
    child,
    track,
    drained,
    ...own,
    [Symbol.asyncDispose]: dispose,
  };
}

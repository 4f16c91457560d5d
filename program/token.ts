import type { CancellationToken, Token } from "../core/token.ts";

/** What makes a cancellation token the token of a program. */
export interface TokenExtension extends Pick<Token, "generation" | "canReload" | "ready" | "reload"> {
  readonly members: Pick<Token, "bind" | "fetch" | "path" | "webSocket">;
  inherited(): Promise<unknown>;
  dispose(): Promise<void>;
}

/** Makes the token that the application gets. */
export function extendToken(token: CancellationToken, { members, inherited, dispose, ...own }: TokenExtension): Token {
  return {
    ...token,
    // A getter is not copied by the spread.
    get isCancelled() {
      return token.isCancelled;
    },
    get inherited() {
      return inherited();
    },
    ...own,
    ...members,
    [Symbol.asyncDispose]: dispose,
  };
}

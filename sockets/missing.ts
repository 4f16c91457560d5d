import type { ReloadErrorCode } from "../core/error.ts";

/** What a new process that has not become ready in time has missed. */
export function notListening(code: ReloadErrorCode, addresses: readonly string[]): string | undefined {
  if (code !== "timeout" || addresses.length === 0) return undefined;
  return `it did not listen on ${
    addresses.join(", ")
  }, as this process does; if that is meant to be, let it call token.ready()`;
}

import type { ReloadErrorCode } from "../core/error.ts";

/** Explains a timeout: the addresses on which the new process did not begin to listen. */
export function explainMissing(code: ReloadErrorCode, addresses: readonly string[]): string | undefined {
  if (code !== "timeout" || addresses.length === 0) return undefined;
  return `it did not listen on ${addresses.join(", ")}, as this process does; if that is intended, let it call token.ready()`;
}

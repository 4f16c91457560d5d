/** The responses of Deno.serve. */
import type { FetchAdapter } from "../../src/core/adapter.ts";

/** The state of a response, behind a symbol; `InnerBody` in ext/fetch/22_body.js of Deno 2.9. */
interface Inner {
  readonly body?: { readonly streamOrStatic?: { getReader?: unknown }; readonly source?: unknown } | null;
}

/** Of this name, one for all responses. */
let symbol: symbol | undefined;

/** Asking for `body` would turn any body into a stream, and cost Deno.serve its fast path. */
export const denoFetch: FetchAdapter = {
  hasStream(response) {
    symbol ??= Object.getOwnPropertySymbols(response).find(({ description }) => description === "response") ?? Symbol();
    const body = (response as unknown as Record<symbol, Inner | undefined>)[symbol]?.body;
    // A blob has a stream too, and a source; it has an end. A text has a source, and is the usual answer: it is asked for first.
    return body?.source === null && typeof body.streamOrStatic?.getReader === "function";
  },
};

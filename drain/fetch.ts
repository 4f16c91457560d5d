import type { FetchHandler } from "../core/token.ts";

/** The answer with `Connection: close`, so that the client's next request comes over a new connection. */
function closing<T extends Response | undefined | void>(response: T): T {
  // No answer, or one that is not an answer any more: an upgrade.
  if (!(response instanceof Response) || response.status === 101) return response;
  try {
    response.headers.set("Connection", "close");
    return response;
  } catch {
    // The headers of what fetch() returned cannot be changed.
    const copy = new Response(response.body, response);
    copy.headers.set("Connection", "close");
    return copy as T;
  }
}

/** Wraps a fetch handler. What it costs before the process drains is one call. */
export function drainingFetch<H extends FetchHandler>(handler: H, isDraining: () => boolean): H {
  function wrapped(this: unknown, request: unknown, more: unknown) {
    const answer = handler.call(this, request, more);
    if (!isDraining()) return answer;
    return answer !== undefined && "then" in answer ? answer.then(closing) : closing(answer);
  }
  // Deno makes nothing of what a handler does not take.
  return Object.defineProperty(wrapped, "length", { value: handler.length }) as unknown as H;
}

import { show } from "../core/check.ts";
import type { FetchHandler } from "../core/token.ts";

/** The response with `Connection: close`: the client sends its next request over a new connection. */
function closing<T extends Response | undefined | void>(response: T): T {
  // No response, or an upgrade.
  if (!(response instanceof Response) || response.status === 101) return response;
  try {
    response.headers.set("Connection", "close");
    return response;
  } catch {
    // The headers of a response of fetch() are immutable.
    const copy = new Response(response.body, response);
    copy.headers.set("Connection", "close");
    return copy as T;
  }
}

/** Throws a TypeError unless it is a fetch handler. */
export function checkHandler(handler: unknown): void {
  if (typeof handler === "function") return;
  const isApp = typeof (handler as { fetch?: unknown } | null | undefined)?.fetch === "function";
  throw new TypeError(
    `fetch: the handler must be a function, not ${show(handler)}${isApp ? "; write `token.fetch(app.fetch)`" : ""}`,
  );
}

/** Wraps a fetch handler. Before the process drains, this costs one call. */
export function drainingFetch<H extends FetchHandler>(handler: H, isDraining: () => boolean): H {
  function wrapped(this: unknown, request: unknown, more: unknown) {
    const answer = handler.call(this, request, more);
    if (!isDraining()) return answer;
    return answer !== undefined && "then" in answer ? answer.then(closing) : closing(answer);
  }
  // Deno does not create the arguments that a handler does not take.
  return Object.defineProperty(wrapped, "length", { value: handler.length }) as unknown as H;
}

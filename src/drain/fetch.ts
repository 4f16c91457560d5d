/** Finishing the requests of wrapped fetch handlers. */
import type { Clock, FetchAdapter } from "../core/adapter.ts";
import { show } from "../core/check.ts";
import type { FetchHandler } from "../core/token.ts";
import { createRequests, type Entry, type FinishSettings, type Requests } from "./requests.ts";

/** The fetch handlers that the token has wrapped. */
export interface WrappedHandlers {
  /**
   * Whether the application has any: then this process may have a server of the runtime's own that
   * was not adopted.
   */
  exist: boolean;
  /**
   * Whether their responses carry `Connection: close`, unless a handler has its own answer to that.
   */
  areClosing: boolean;
  /**
   * Wraps a handler. Before the process drains, this costs a call, and for each answer that is not
   * there at once a promise.
   *
   * @param isClosing Whether its responses carry `Connection: close`. Default: `areClosing`.
   * @param onUpgrade Called for each response that makes a connection one of another protocol.
   */
  wrap<H extends FetchHandler>(handler: H, isClosing?: () => boolean, onUpgrade?: () => void): H;
  /**
   * As {@linkcode Requests.running}: no request whose answer was there at once and is no stream.
   */
  running: Requests["running"];
  /** As {@linkcode Requests.finish}. */
  finish(settings: FinishSettings): Promise<number>;
}

type Answer = Response | undefined | void;

/** One call of a handler. */
interface Call {
  readonly request: unknown;
  /** What the runtime has given it besides. */
  readonly more: unknown;
  readonly isClosing: () => boolean;
  readonly onUpgrade: (() => void) | undefined;
}

/** Whether a request has a body that nobody has begun to read. */
function isUnread(request: unknown): boolean {
  return request instanceof Request && !request.bodyUsed && request.body !== null;
}

/**
 * The response with `Connection: close`: the client sends its next request over a new connection.
 * Not while the body of the request is unread: Bun 1.4 closes the connection then without reading
 * it, and the client may lose the answer; RFC 9112, section 9.6.
 */
function closing<T extends Answer>(response: T, request: unknown): T {
  // No response, or an upgrade.
  if (!(response instanceof Response) || response.status === 101 || isUnread(request)) {
    return response;
  }
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
    `fetch: the handler must be a function, not ${show(handler)}${
      isApp ? "; write `token.fetch(app.fetch)`" : ""
    }`,
  );
}

/** The answer to a request whose handler has not returned in time. */
function unanswered(): Response {
  return new Response("the server is going away, and this request took too long\n", {
    status: 503,
    headers: { "Connection": "close" },
  });
}

/** A stream that can be cut; until then it is the same as the one that it reads. */
function cuttable(
  body: ReadableStream<Uint8Array>,
  entry: Entry,
  requests: Requests,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream({
    start(controller) {
      entry.cut = () => {
        requests.end(entry);
        const error = new Error(
          "reload-self: a response had not ended after drainTimeout and was cut",
        );
        error.stack = String(error); // The runtime prints it.
        controller.error(error);
        // What the application makes of it is up to the application.
        reader.cancel(error).catch(() => {});
      };
      requests.add(entry);
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        requests.end(entry);
        controller.close();
      } catch (error) {
        requests.end(entry);
        controller.error(error); // Does nothing when it was cut meanwhile.
      }
    },
    cancel(reason) {
      requests.end(entry);
      return reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
}

/**
 * Remembers the servers that requests come from, by the second argument of a call: the same for all
 * requests of one server.
 */
function createLookout(
  requests: Requests,
  findServer: NonNullable<FetchAdapter["server"]>,
): (more: unknown) => void {
  let seen: unknown;
  return (more) => {
    if (more === seen) return;
    seen = more;
    const server = findServer(more);
    if (server !== undefined) requests.sawServer(server);
  };
}

/** What the answers of a process have in common. */
interface Answering {
  readonly requests: Requests;
  readonly hasStream: NonNullable<FetchAdapter["hasStream"]>;
}

/** What the runtime is to send. */
function finished<T extends Answer>(
  { requests, hasStream }: Answering,
  response: T,
  { request, more, isClosing, onUpgrade }: Call,
  entry?: Entry,
): T {
  let sent = response;
  if (sent instanceof Response && sent.status === 101) onUpgrade?.();
  if (sent instanceof Response && hasStream(sent) && sent.body?.locked === false) {
    const body = cuttable(sent.body, entry ?? { request, more, cut() {} }, requests);
    sent = new Response(body, sent) as T & Response;
  } else if (entry !== undefined) requests.end(entry);
  return isClosing() ? closing(sent, request) : sent;
}

/** Follows a request whose answer is not there yet. */
function follow(
  answering: Answering,
  answer: PromiseLike<Answer>,
  call: Call,
): Promise<Answer> {
  const { requests } = answering;
  return new Promise((resolve, reject) => {
    const entry: Entry = {
      request: call.request,
      more: call.more,
      cut() {
        requests.end(entry);
        resolve(unanswered());
      },
    };
    requests.add(entry);
    answer.then(
      (response) => {
        if (requests.has(entry)) resolve(finished(answering, response, call, entry));
        else response?.body?.cancel().catch(() => {});
      },
      (error) => {
        requests.end(entry);
        reject(error);
      },
    );
  });
}

/** No handlers yet. */
export function createWrappedHandlers(clock: Clock, runtime: FetchAdapter = {}): WrappedHandlers {
  const requests = createRequests(clock);
  const { server: findServer, hasStream = () => false } = runtime;
  const answering = { requests, hasStream };

  const self: WrappedHandlers = {
    exist: false,
    areClosing: false,
    wrap<H extends FetchHandler>(
      handler: H,
      isClosing = () => self.areClosing,
      onUpgrade?: () => void,
    ): H {
      const look = findServer && createLookout(requests, findServer);
      function wrapped(this: unknown, request: unknown, more: unknown) {
        look?.(more);
        const answer = handler.call(this, request, more);
        if (answer instanceof Response) {
          return isClosing() || answer.status === 101 || hasStream(answer)
            ? finished(answering, answer, { request, more, isClosing, onUpgrade })
            : answer;
        }
        return answer !== undefined && "then" in answer
          ? follow(answering, answer, { request, more, isClosing, onUpgrade })
          : answer;
      }
      // Deno does not create the arguments that a handler does not take.
      return Object.defineProperty(wrapped, "length", { value: handler.length }) as unknown as H;
    },
    running: requests.running,
    finish: requests.finish,
  };
  return self;
}

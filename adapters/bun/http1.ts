/**
 * The connections of node:http that Bun serves by itself. What it shows of one is a socket without a handle, and below it, under a symbol, an
 * object that knows the parser.
 */
import type { LiveSocket } from "../../src/core/live.ts";
import type { Http1View } from "../../src/core/socket_adapter.ts";

/** The object below a socket, and what is used of it. */
interface NativeHandle {
  /** Closes the connection if it waits for a request, and returns whether it did. One whose answer is still to be sent counts as such. */
  closeIfIdle(): boolean;
  /** That of the last request, or of the one that is being read. */
  readonly response?: { readonly bufferedAmount?: number } | null;
}

/** What a socket says of the request that it serves; private members of Node's that Bun has as well. */
interface RequestState extends LiveSocket {
  readonly _httpMessage?: unknown;
  readonly parser?: { readonly incoming?: { readonly complete: boolean } | null } | null;
}

let symbol: symbol | undefined;

const memberOf = (socket: LiveSocket, symbol: symbol) =>
  (socket as unknown as Record<symbol, Partial<NativeHandle> | null | undefined>)[symbol];

/** The native object below a socket; `undefined` for a socket of node:net. */
function nativeHandle(socket: LiveSocket): NativeHandle | undefined {
  symbol ??= Object.getOwnPropertySymbols(socket).find((symbol) =>
    symbol.description === "handle" && typeof memberOf(socket, symbol)?.closeIfIdle === "function"
  );
  return symbol && (memberOf(socket, symbol) as NativeHandle | null | undefined) || undefined;
}

/** Whether a socket is one of a server that Bun serves by itself. */
export const isNative = (socket: LiveSocket): boolean => nativeHandle(socket) !== undefined;

/** Whether no request is being answered, or its body read. Only `closeIfIdle` knows of one whose head has come in part. */
export function seemsIdle(socket: LiveSocket): boolean {
  const { _httpMessage, parser } = socket as RequestState;
  return !_httpMessage && parser?.incoming?.complete !== false && !nativeHandle(socket)?.response?.bufferedAmount;
}

/** Closes a connection if it waits for a request and nothing is left to be sent. Returns whether it did. */
export function closeIfIdle(socket: LiveSocket): boolean {
  return seemsIdle(socket) && nativeHandle(socket)?.closeIfIdle() === true;
}

const view: Http1View = {
  isIdle: seemsIdle,
  mark: (socket) => nativeHandle(socket)?.response ?? undefined, // There is a new one for each request.
  end: closeIfIdle,
};

/** What can be seen of a connection that Bun serves by itself. */
export const bunHttp1 = (socket: LiveSocket): Http1View | undefined => isNative(socket) ? view : undefined;

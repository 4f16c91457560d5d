/** HTTP/1 connections between two requests. */
import type { LiveSocket } from "../core/live.ts";
import type { Http1View } from "../core/socket_adapter.ts";

/**
 * A connection of an HTTP/1 server. The members with an underscore and the parser are private ones
 * of Node's, which all three runtimes have.
 */
export interface HttpSocket extends LiveSocket {
  readonly bytesRead: number;
  /**
   * The response that is being sent. A listener to requests would slow down a server that is asked
   * for this once in its life.
   */
  readonly _httpMessage?: Response | null;
  readonly parser?: {
    /**
     * The last request. Deno 2.9 keeps one whose body the application has not read, until the next
     * one comes.
     */
    readonly incoming?: { readonly complete: boolean } | null;
    /**
     * Returns an error, or on Deno -1, in the middle of a request. The parser goes on as if it had
     * not been asked.
     */
    finish(): unknown;
  } | null;
  setTimeout(milliseconds: number): unknown;
}

/** A response of node:http. */
export interface Response {
  once(event: "close", listener: () => void): unknown;
}

/**
 * Whether a connection waits for its next request: the last one was read to its end and answered,
 * and no byte of the next one was read.
 */
export function isIdle(
  { _httpMessage, parser, readableLength, writableLength }: HttpSocket,
): boolean {
  if (
    !parser || parser.incoming?.complete === false || _httpMessage || readableLength > 0 ||
    writableLength > 0
  ) return false;
  const result = parser.finish();
  return result === undefined || result === 0;
}

/** Connections as node:net and node:http have them. */
export const nodeHttp1: Http1View = {
  isIdle: (socket) => isIdle(socket as HttpSocket),
  mark: (socket) => (socket as HttpSocket).bytesRead,
  end(socket) {
    (socket as LiveSocket & { end(): unknown }).end();
    return true;
  },
};

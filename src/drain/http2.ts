/** Finishing the sessions of HTTP/2 without losing a stream: RFC 9113, section 6.8. */
import type { Clock } from "../core/adapter.ts";

/** A session of node:http2. */
export interface Session {
  readonly closed: boolean;
  readonly destroyed: boolean;
  on(event: "stream", listener: (stream: { once(event: "close", listener: () => void): unknown }) => void): unknown;
  once(event: "close", listener: () => void): unknown;
  goaway(code: number): void;
  ping(callback: () => void): boolean;
  close(): void;
  destroy(): void;
}

/** The sessions of one server. */
export interface Sessions {
  readonly size: number;
  /** Follows a session from its beginning. */
  add(session: Session): void;
  /** Begins to end the sessions. */
  finish(idleGrace: number): void;
  /** Must be called from time to time after `finish`. */
  check(): void;
  /** Ends them all at once. */
  cut(): void;
}

const NO_ERROR = 0;
/** How long a client may take for its first request: browsers open connections in advance. */
export const FIRST_REQUEST_MS = 5_000;
/** How long sending the end of the last response may take where the runtime does not wait for it: 50 ms were too short on a busy machine. */
const SEND_MS = 1_000;

/**
 * Follows the sessions of a server. `onEnd` is called for each that has ended.
 *
 * @param http2CloseTruncates Whether closing a session cuts its last response.
 */
export function createSessions(clock: Clock, http2CloseTruncates: boolean, onEnd: () => void): Sessions {
  interface State {
    since: number;
    /** The number of streams so far, and of those that are open. */
    begun: number;
    open: number;
    asked: boolean;
    /** When the GOAWAY was sent. */
    told: number | undefined;
    close(): void;
  }
  const sessions = new Map<Session, State>();
  let idleGrace: number | undefined;
  let finishing = 0;

  /** The client closes its side after a GOAWAY, and the runtime then closes this side by itself: too early. */
  function closeLate(session: Session, state: State): void {
    let closing = false;
    session.close = () => {
      if (idleGrace === undefined) return state.close();
      if (closing) return;
      closing = true;
      const closeIfSent = () => clock.timer(SEND_MS, () => state.open > 0 ? closeIfSent() : state.close());
      closeIfSent();
    };
  }

  /**
   * Sends a GOAWAY, preferably between two streams: it refuses streams that the client has sent and this process has not read. A ping that
   * comes back shows that there are none, except those that the client opens at this very moment; it may send them again, because it knows
   * that they were not begun. (nghttp2_submit_shutdown_notice would do better. node:http2 does not offer it, and after `session.goaway()`
   * nghttp2 ignores streams that are on their way.)
   */
  function tellWhenIdle(session: Session, state: State): void {
    if (idleGrace === undefined || state.asked || state.told !== undefined || state.open > 0 || session.destroyed) return;
    const now = clock.now();
    if (state.begun === 0 && now - state.since < FIRST_REQUEST_MS) return;
    const { begun } = state;
    state.asked = session.ping(() => {
      state.asked = false;
      if (state.begun === begun && state.open === 0) tell(session, state);
    });
  }

  /** The client closes the connection when it has all its responses; RFC 9113, section 9.1. */
  function tell(session: Session, state: State): void {
    if (session.destroyed || session.closed || state.told !== undefined) return;
    session.goaway(NO_ERROR);
    state.told = clock.now();
  }

  return {
    get size() {
      return sessions.size;
    },
    add(session) {
      const state: State = {
        since: clock.now(),
        begun: 0,
        open: 0,
        asked: false,
        told: undefined,
        close: session.close.bind(session),
      };
      sessions.set(session, state);
      if (http2CloseTruncates) closeLate(session, state);
      session.on("stream", (stream) => {
        state.begun++;
        state.open++;
        stream.once("close", () => {
          state.open--;
          tellWhenIdle(session, state);
        });
      });
      session.once("close", () => {
        sessions.delete(session);
        onEnd();
      });
    },
    finish(time) {
      idleGrace = time;
      finishing = clock.now();
    },
    check() {
      for (const [session, state] of sessions) {
        tellWhenIdle(session, state);
        const now = clock.now();
        if (state.begun > 0 && now - finishing >= (idleGrace ?? 0)) tell(session, state);
        if (state.told !== undefined && now - state.told >= (idleGrace ?? 0) && !session.closed) session.close();
      }
    },
    cut() {
      for (const session of sessions.keys()) session.destroy();
    },
  };
}

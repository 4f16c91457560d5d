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
  /** Follows a session. */
  add(session: Session): void;
  /** From now on the sessions are to end. */
  finish(settle: number): void;
  /** Does what time asks for, once `finish` was called. */
  look(): void;
  /** Ends them all at once. */
  cut(): void;
}

const NO_ERROR = 0;
/** How long a client may say nothing at first: its first request may be about to be sent, and browsers open connections in advance. */
export const FRESH = 5_000;
/** How long the end of the last answer may take to be sent where the runtime does not wait for it: 50 were too few on a busy machine. */
const SENDING = 1_000;

/**
 * Follows the sessions of a server. `onEnd` is called for each that has ended.
 *
 * @param cutsAnswers Does a session that is closed end before its last answer is sent?
 */
export function createSessions(clock: Clock, cutsAnswers: boolean, onEnd: () => void): Sessions {
  interface State {
    since: number;
    /** Streams that were begun, and those of them that have not ended. */
    begun: number;
    open: number;
    asked: boolean;
    /** When the client was told to leave. */
    told: number | undefined;
    close(): void;
  }
  const sessions = new Map<Session, State>();
  let settle: number | undefined;
  let finishing = 0;

  /** A client that is told to leave closes its side, and the runtime then closes this one by itself. */
  function closeLate(session: Session, state: State): void {
    let closing = false;
    session.close = () => {
      if (settle === undefined) return state.close();
      if (closing) return;
      closing = true;
      const look = () => clock.timer(SENDING, () => state.open > 0 ? look() : state.close());
      look();
    };
  }

  /**
   * Tells the client to leave, best between two streams: a GOAWAY refuses what the client has sent and we have not read. A ping that
   * comes back says that there is nothing of the kind, but for what the client does in just that moment; it may send that again, because
   * it knows that it was not begun. (nghttp2_submit_shutdown_notice would ask it first. node:http2 does not offer that, and after
   * `session.goaway()` nghttp2 ignores the streams that are on their way.)
   */
  function tellWhenIdle(session: Session, state: State): void {
    if (settle === undefined || state.asked || state.told !== undefined || state.open > 0 || session.destroyed) return;
    const now = clock.now();
    if (state.begun === 0 && now - state.since < FRESH) return;
    const { begun } = state;
    state.asked = session.ping(() => {
      state.asked = false;
      if (state.begun === begun && state.open === 0) tell(session, state);
    });
  }

  /** The client closes the connection when it has what it waits for; RFC 9113, section 9.1. */
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
      if (cutsAnswers) closeLate(session, state);
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
      settle = time;
      finishing = clock.now();
    },
    look() {
      for (const [session, state] of sessions) {
        tellWhenIdle(session, state);
        const now = clock.now();
        if (state.begun > 0 && now - finishing >= (settle ?? 0)) tell(session, state);
        if (state.told !== undefined && now - state.told >= (settle ?? 0) && !session.closed) session.close();
      }
    },
    cut() {
      for (const session of sessions.keys()) session.destroy();
    },
  };
}

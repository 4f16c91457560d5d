/** Finishing the sessions of HTTP/2 without losing a stream: RFC 9113, section 6.8. */
import type { Clock } from "../core/adapter.ts";

/** A session of node:http2. */
export interface Session {
  readonly closed: boolean;
  readonly destroyed: boolean;
  on(
    event: "stream",
    listener: (stream: { once(event: "close", listener: () => void): unknown }) => void,
  ): unknown;
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
/**
 * How long sending the end of the last response may take where the runtime does not wait for it: 50
 * ms were too short on a busy machine.
 */
const SEND_MS = 1_000;

/** How the sessions end; `idleGrace` is `undefined` before that begins. */
interface Ending {
  idleGrace: number | undefined;
  begun: number;
}

class TrackedSession {
  readonly #session: Session;
  readonly #clock: Clock;
  readonly #ending: Ending;
  readonly #since: number;
  /** The number of streams so far, and of those that are open. */
  #begun = 0;
  #open = 0;
  #isAsked = false;
  /** When the GOAWAY was sent. */
  #told: number | undefined;

  constructor(session: Session, clock: Clock, ending: Ending) {
    this.#session = session;
    this.#clock = clock;
    this.#ending = ending;
    this.#since = clock.now();
    session.on("stream", (stream) => {
      this.#begun++;
      this.#open++;
      stream.once("close", () => {
        this.#open--;
        this.#tellWhenIdle();
      });
    });
    this.#closeLate();
  }

  /**
   * The client closes its side after a GOAWAY, and the runtime then closes this side by itself: too
   * early on Bun 1.4, which cuts all that go on, and on Deno 2.9, which cuts the last response:
   * [kMaybeDestroy] in ext/node/polyfills/http2.ts counts streams, not what is to be sent.
   */
  #closeLate(): void {
    const close = this.#session.close.bind(this.#session);
    let isClosing = false;
    const closeIfSent = () =>
      void this.#clock.timer(SEND_MS, () => this.#open > 0 ? closeIfSent() : close());
    this.#session.close = () => {
      if (this.#ending.idleGrace === undefined) return close();
      if (isClosing) return;
      isClosing = true;
      closeIfSent();
    };
  }

  check(): void {
    this.#tellWhenIdle();
    const { begun, idleGrace = 0 } = this.#ending;
    const now = this.#clock.now();
    if (this.#begun > 0 && now - begun >= idleGrace) this.#tell();
    if (this.#told !== undefined && now - this.#told >= idleGrace && !this.#session.closed) {
      this.#session.close();
    }
  }

  /**
   * Sends a GOAWAY, preferably between two streams: it refuses streams that the client has sent and
   * this process has not read. A ping that comes back shows that there are none, except those that
   * the client opens at this very moment; it may send them again, because it knows that they were
   * not begun. (nghttp2_submit_shutdown_notice would do better. node:http2 does not offer it, and
   * after `session.goaway()` nghttp2 ignores streams that are on their way.)
   */
  #tellWhenIdle(): void {
    const isBusy = this.#isAsked || this.#told !== undefined || this.#open > 0;
    if (this.#ending.idleGrace === undefined || isBusy || this.#session.destroyed) return;
    if (this.#begun === 0 && this.#clock.now() - this.#since < FIRST_REQUEST_MS) return;
    const begun = this.#begun;
    this.#isAsked = this.#session.ping(() => {
      this.#isAsked = false;
      if (this.#begun === begun && this.#open === 0) this.#tell();
    });
  }

  /** The client closes the connection when it has all its responses; RFC 9113, section 9.1. */
  #tell(): void {
    if (this.#session.destroyed || this.#session.closed || this.#told !== undefined) return;
    this.#session.goaway(NO_ERROR);
    this.#told = this.#clock.now();
  }
}

/** Follows the sessions of a server. `onEnd` is called for each that has ended. */
export function createSessions(clock: Clock, onEnd: () => void): Sessions {
  const sessions = new Map<Session, TrackedSession>();
  const ending: Ending = { idleGrace: undefined, begun: 0 };
  return {
    get size() {
      return sessions.size;
    },
    add(session) {
      sessions.set(session, new TrackedSession(session, clock, ending));
      session.once("close", () => {
        sessions.delete(session);
        onEnd();
      });
    },
    finish: (idleGrace) => void Object.assign(ending, { idleGrace, begun: clock.now() }),
    check() {
      for (const tracked of sessions.values()) tracked.check();
    },
    cut() {
      for (const session of sessions.keys()) session.destroy();
    },
  };
}

import type { Clock } from "./adapter.ts";
import { describeError } from "./error.ts";
import type { Link, Participant } from "./participant.ts";

/** The largest state that is handed over, in bytes of JSON. */
const LARGEST = 64 * 2 ** 20;
/** How much of it goes into one message, in characters: a message is held in memory several times on its way. */
const PIECE = 2 ** 20;

/** The application's state. */
export interface HandOver {
  readonly participant: Participant;
  /** The state that came from the predecessor. While somebody waits for it, the process stays alive. */
  inherited(): Promise<unknown>;
}

/**
 * Hands the application's state to the new process: the last thing before the commit, so that it is as fresh as can be, and before
 * any socket, so that it is there when the first connection is.
 *
 * @param take Makes the state, in the old process.
 */
export function createHandOver(take: (() => unknown) | undefined, hasPredecessor: boolean, clock: Clock): HandOver {
  const inherited = Promise.withResolvers<unknown>();
  let isKnown = !hasPredecessor;
  let release: (() => void) | undefined;
  if (isKnown) inherited.resolve(undefined);
  let link: Link | undefined;
  let received = Promise.withResolvers<void>();

  function settle(state: unknown): void {
    isKnown = true;
    inherited.resolve(state);
    release?.();
    release = undefined;
  }

  const participant: Participant = {
    name: "the state",
    inherit(link) {
      let text = "";
      link.onData(async (data) => {
        const { piece, end } = data as { piece?: unknown; end?: unknown };
        if (typeof piece === "string" && text.length < LARGEST) text += piece;
        if (end !== true) return;
        let error: string | undefined;
        try {
          settle(JSON.parse(text));
        } catch (cause) {
          error = describeError(cause);
        }
        text = "";
        // Whoever waits for the state gets their turn first.
        await Promise.resolve();
        link.send({ received: error === undefined, error }).catch(() => {});
      });
    },
    succeed: () => settle(undefined),
    offer(to) {
      link = to;
      received = Promise.withResolvers();
      received.promise.catch(() => {});
      to.onData((data) => {
        const { received: ok, error } = data as { received?: unknown; error?: unknown };
        if (ok === true) received.resolve();
        else received.reject(new Error(`the new process could not read it: ${String(error)}`));
      });
    },
    async commit({ signal }) {
      if (take === undefined || link === undefined) return;
      const text = JSON.stringify(await take());
      if (text === undefined) return;
      const bytes = new TextEncoder().encode(text).length;
      if (bytes > LARGEST) throw new Error(`it has ${bytes} bytes as JSON, and no more than ${LARGEST} are handed over`);
      for (let at = 0; at < text.length; at += PIECE) {
        signal.throwIfAborted();
        await link.send({ piece: text.slice(at, at + PIECE) });
      }
      await link.send({ end: true });
      await received.promise;
    },
  };
  return {
    participant,
    inherited() {
      if (!isKnown) release ??= clock.hold();
      return inherited.promise;
    },
  };
}

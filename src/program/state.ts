import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import type {
  Handover,
  IncomingHandover,
  IncomingReload,
  OutgoingHandover,
  OutgoingReload,
} from "../reload/handover.ts";

/** The largest state that is handed over, in bytes of JSON. */
const MAX_BYTES = 64 * 2 ** 20;
/** The size of one message, in characters: a message is copied several times on its way. */
const PIECE_CHARACTERS = 2 ** 20;

/** The application's state. */
export interface StateHandover {
  readonly handover: Handover;
  /** The state that came from the predecessor. Keeps the process alive while it is awaited. */
  inheritedState(): Promise<unknown>;
  /** Whether the application waits for it. */
  isAwaited(): boolean;
}

/**
 * Hands the application's state to the new process: first of all at the commit, so that the state
 * is there before the first connection, and as late as possible.
 *
 * @param take Makes the state, in the old process.
 */
export function createStateHandover(
  take: (() => unknown) | undefined,
  hasPredecessor: boolean,
  clock: Clock,
): StateHandover {
  const inherited = Promise.withResolvers<unknown>();
  let isKnown = false;
  let release: (() => void) | undefined;

  function settle(state: unknown): void {
    isKnown = true;
    inherited.resolve(state);
    release?.();
    release = undefined;
  }
  if (!hasPredecessor) settle(undefined);

  return {
    handover: {
      name: "the state",
      outgoing: (reload) => sendState(reload, take),
      incoming: (arrival) => receiveState(arrival, settle),
    },
    inheritedState() {
      if (!isKnown) release ??= clock.hold();
      return inherited.promise;
    },
    isAwaited: () => release !== undefined,
  };
}

/** Takes the state as it travels; `undefined` where there is none. */
export async function stateAsText(take: (() => unknown) | undefined): Promise<string | undefined> {
  const text = JSON.stringify(await take?.());
  const bytes = text === undefined ? 0 : new TextEncoder().encode(text).length;
  if (bytes > MAX_BYTES) {
    throw new Error(`it has ${bytes} bytes as JSON; at most ${MAX_BYTES} are handed over`);
  }
  return text;
}

function sendState(
  { link, signal }: OutgoingReload,
  take: (() => unknown) | undefined,
): OutgoingHandover {
  if (take === undefined) return {};
  let isTaking = false;
  const received = Promise.withResolvers<void>();
  received.promise.catch(() => {}); // May reject before it is awaited.
  link.onData(({ received: ok, error }) => {
    if (ok === true) received.resolve();
    else received.reject(new Error(`the new process could not read it: ${String(error)}`));
  });
  return {
    async commit() {
      isTaking = true;
      const text = await stateAsText(take);
      isTaking = false;
      if (text === undefined) return;
      for (let at = 0; at < text.length; at += PIECE_CHARACTERS) {
        signal.throwIfAborted();
        await link.send({ piece: text.slice(at, at + PIECE_CHARACTERS) });
      }
      await link.send({ end: true });
      await received.promise;
    },
    explain: (code) =>
      isTaking && code === "timeout" ? "saveState() of this process did not resolve" : undefined,
  };
}

function receiveState(
  { link }: IncomingReload,
  settle: (state: unknown) => void,
): IncomingHandover {
  let text = "";
  link.onData(async ({ piece, end }) => {
    if (typeof piece === "string" && text.length < MAX_BYTES) text += piece;
    if (end !== true) return;
    let error: string | undefined;
    try {
      settle(JSON.parse(text));
    } catch (cause) {
      error = describeError(cause);
    }
    text = "";
    await Promise.resolve(); // Code that awaits the state runs before the predecessor goes on.
    link.send({ received: error === undefined, error }).catch(() => {});
  });
  return { takeOver: () => settle(undefined) };
}

/**
 * Whether a WebSocket is between two messages, where the runtime does not tell: the bytes that it
 * has read are those of the messages that the application got. RFC 6455, section 5.2.
 */
import type { TcpState } from "./tcp.ts";

/**
 * The bytes that are counted for a connection, since a moment at which it was between two messages.
 */
export interface Counts {
  /** What the kernel had counted then. */
  readonly read: number;
  readonly written: number;
  /** The frames that the application got. */
  received: number;
  /**
   * The frames that the application has sent; 0 and not counted where the runtime shows its control
   * frames.
   */
  sent: number;
}

/** The bytes of a frame around its payload. */
export function frameBytes(payload: number, isMasked: boolean): number {
  return payload + (payload < 126 ? 2 : payload < 65_536 ? 4 : 10) + (isMasked ? 4 : 0);
}

/**
 * How long nothing may have come, in milliseconds, where control frames are all that does not add
 * up.
 */
const QUIET_MS = 50;
const VERY_QUIET_MS = 1_000;
/** RFC 6455, section 5.5: the longest payload of a control frame. */
const MOST_CONTROL = 125;

/**
 * Whether a WebSocket is between two messages.
 *
 * @param answersPings Whether the runtime sends control frames of which the application hears
 * nothing. Each of these belongs to one that came: a ping of the server's own and its pong, a
 * client's ping and its pong. What comes is 4 bytes longer than what is sent, because it is masked.
 */
export function isAtBoundary(counts: Counts, now: TcpState, answersPings: boolean): boolean {
  const read = now.read - counts.read - counts.received;
  if (read === 0 && !answersPings) return true;
  const written = answersPings ? now.written - counts.written - counts.sent : 0;
  if (read === 0 || read < 0 || written <= 0) return read === 0 && written === 0;
  const frames = (read - written) / 4;
  const payload = written - 2 * frames;
  if (!Number.isInteger(frames) || payload < 0 || payload > MOST_CONTROL * frames) return false;
  // A part of a message could have the same length. One that stands still for so long has no client
  // that goes on with it soon.
  return now.sinceReceived >= (payload === 0 ? QUIET_MS : VERY_QUIET_MS);
}

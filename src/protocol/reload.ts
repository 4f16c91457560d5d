/**
 * The messages between an old process and a new one. The old one states its version when it starts
 * the new one, and both keep to it. Unknown fields are ignored, so that fields can be added.
 */
export const PROTOCOL = 1;

/**
 * What this version understands besides: it is stated in `hello`. 0.5.0 stated none, which reads as
 * 0.
 *
 * - 1: answers `ask`.
 */
export const ABILITIES = 1;

/** What a handover sends to its namesake: an object, whose members the receiver has to check. */
export type HandoverData = Readonly<Record<string, unknown>>;

/** A message of a handover to its namesake. */
interface Data {
  type: "data";
  name: string;
  data: HandoverData;
}

/** The messages of a new process. */
export type FromSuccessor =
  | { type: "hello"; pid: number; abilities?: number }
  // The answer to a question, or none: whether it can be sent shows if the old process is there.
  | { type: "alive"; answer?: number }
  | Data
  | { type: "ready" }
  | { type: "failed"; message: string }
  | { type: "in-charge"; check?: boolean } // It has a check to be asked for.
  | { type: "checked"; error?: string } // The outcome of its check: what is wrong, if something is.
  | { type: "stopping" }; // It is in charge and was asked to shut down.

/**
 * The messages of an old process. `over` ends the reload: until then the old process may take
 * charge again and kill the new one, which therefore begins no reload of its own.
 */
export type FromPredecessor =
  | Data
  | { type: "offered" } // Everything that the handovers offer has been sent.
  | { type: "commit" }
  | { type: "ask"; number: number } // Is the new process alive?
  | { type: "check" } // The old process accepts no connections any more: the new one checks itself.
  // The old process, which these name, has taken charge again: the new one finishes, and ends.
  | { type: "revoke"; pid: number; generation: number }
  | { type: "over"; reload: boolean }
  | { type: "reload" }
  | { type: "shutdown"; signal: string };

/** Marks our messages: the application may send others over the same channel. */
const MARK = "@js0/reload-self";

/** A message as it goes over the channel. */
export function pack(message: FromSuccessor | FromPredecessor): unknown {
  return { [MARK]: PROTOCOL, ...message };
}

function fields(raw: unknown): Record<string, unknown> | undefined {
  if (typeof raw !== "object" || raw === null) return undefined;
  const record = raw as Record<string, unknown>;
  return record[MARK] === PROTOCOL ? record : undefined;
}

function parseData({ name, data }: Record<string, unknown>): Data | undefined {
  const isObject = typeof data === "object" && data !== null && !Array.isArray(data);
  return typeof name === "string" && isObject
    ? { type: "data", name, data: data as HandoverData }
    : undefined;
}

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0;

/** A message of a new process, or `undefined` for anything else. */
export function parseFromSuccessor(raw: unknown): FromSuccessor | undefined {
  const record = fields(raw);
  switch (record?.type) {
    case "hello":
      return isCount(record.pid) && record.pid > 0
        ? {
          type: "hello",
          pid: record.pid,
          ...(isCount(record.abilities) && { abilities: record.abilities }),
        }
        : undefined;
    case "data":
      return parseData(record);
    case "alive":
      return isCount(record.answer) ? { type: "alive", answer: record.answer } : { type: "alive" };
    case "ready":
    case "stopping":
      return { type: record.type };
    case "in-charge":
      return record.check === true ? { type: "in-charge", check: true } : { type: "in-charge" };
    case "checked":
      return typeof record.error === "string"
        ? { type: "checked", error: record.error }
        : { type: "checked" };
    case "failed":
      return typeof record.message === "string"
        ? { type: "failed", message: record.message }
        : undefined;
    default:
      return undefined;
  }
}

/** A message of an old process, or `undefined` for anything else. */
export function parseFromPredecessor(raw: unknown): FromPredecessor | undefined {
  const record = fields(raw);
  switch (record?.type) {
    case "data":
      return parseData(record);
    case "offered":
    case "commit":
    case "check":
    case "reload":
      return { type: record.type };
    case "revoke":
      return isCount(record.pid) && record.pid > 0 && isCount(record.generation)
        ? { type: "revoke", pid: record.pid, generation: record.generation }
        : undefined;
    case "ask":
      return isCount(record.number) ? { type: "ask", number: record.number } : undefined;
    case "over":
      return { type: "over", reload: record.reload === true };
    case "shutdown":
      return typeof record.signal === "string"
        ? { type: "shutdown", signal: record.signal }
        : undefined;
    default:
      return undefined;
  }
}

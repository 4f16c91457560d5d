/**
 * The messages between an old process and a new one. The old one states its version when it starts the new one, and both
 * keep to it; fields that are not known are ignored, so that they can be added.
 */
export const PROTOCOL = 1;

/** What a new process says to the old one. */
export type FromSuccessor =
  | { type: "hello"; pid: number }
  | { type: "alive" } // Asks for nothing: whether it can be sent tells if the old process is there.
  | { type: "data"; name: string; data: unknown }
  | { type: "ready" }
  | { type: "failed"; message: string }
  | { type: "in-charge" }
  | { type: "stopping" }; // It is in charge, and was asked to shut down.

/**
 * What an old process says to the new one. `over` ends the reload: the old process knows that the new one is in charge. Until then
 * it may still take it all back and kill the new one, which therefore starts no reload of its own.
 */
export type FromPredecessor =
  | { type: "data"; name: string; data: unknown }
  | { type: "offered" } // All that the participants offer has been sent.
  | { type: "commit" }
  | { type: "over"; reload: boolean }
  | { type: "reload" }
  | { type: "shutdown"; signal: string };

/** Marks our messages, so that nothing else that is sent over the channel is taken for one. */
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

function data(record: Record<string, unknown>): { type: "data"; name: string; data: unknown } | undefined {
  return typeof record.name === "string" ? { type: "data", name: record.name, data: record.data } : undefined;
}

/** What a new process said, or `undefined` for anything that is not understood. */
export function parseFromSuccessor(raw: unknown): FromSuccessor | undefined {
  const record = fields(raw);
  switch (record?.type) {
    case "hello":
      return Number.isSafeInteger(record.pid) && Number(record.pid) > 0
        ? { type: "hello", pid: Number(record.pid) }
        : undefined;
    case "data":
      return data(record);
    case "alive":
    case "ready":
    case "in-charge":
    case "stopping":
      return { type: record.type };
    case "failed":
      return typeof record.message === "string" ? { type: "failed", message: record.message } : undefined;
    default:
      return undefined;
  }
}

/** What an old process said, or `undefined` for anything that is not understood. */
export function parseFromPredecessor(raw: unknown): FromPredecessor | undefined {
  const record = fields(raw);
  switch (record?.type) {
    case "data":
      return data(record);
    case "offered":
    case "commit":
    case "reload":
      return { type: record.type };
    case "over":
      return { type: "over", reload: record.reload === true };
    case "shutdown":
      return typeof record.signal === "string" ? { type: "shutdown", signal: record.signal } : undefined;
    default:
      return undefined;
  }
}

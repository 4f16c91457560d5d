/**
 * The messages between the instances of a program and `reload-self run`, over a unix socket in the
 * folder of each instance.
 */

/** The name of the socket. */
export const SOCKET = "socket";

/** Where sockets are among all that share an address, by address. */
export type Positions = Readonly<Record<string, readonly number[]>>;

/** The messages of an instance. */
export type FromInstance =
  | { type: "up" } // It runs, with all its sockets.
  // `ordered`: the new processes must be started one after the other. `passes`: it reports what
  // its new process does when it is in charge; a program of version 0.5 does not.
  | { type: "reloading"; ordered: boolean; passes: boolean }
  | { type: "ready" } // Its new process is ready.
  | { type: "passed" } // Its new process is in charge, and has passed its check.
  | { type: "failed"; message: string }
  | { type: "leaving"; positions: Positions }; // Its sockets are to leave their groups.

/** The messages to an instance. */
export type ToInstance =
  | { type: "start" } // It may start its new process.
  // All new processes are ready. `passes`: they are waited for again when they are in charge.
  | { type: "go"; passes: boolean }
  | { type: "keep" } // All new processes have passed.
  | { type: "refuse"; message: string } // Another instance has failed.
  | { type: "leave"; address: string }; // The last of its sockets on this address may leave.

function isPositions(value: unknown): value is Positions {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    Object.values(value).every((list) =>
      Array.isArray(list) && list.every((i) => Number.isSafeInteger(i))
    );
}

/** A message of an instance, or `undefined` for anything else. */
export function parseFromInstance(raw: unknown): FromInstance | undefined {
  const { type, ordered, passes, message, positions } = (raw ?? {}) as Record<string, unknown>;
  if (type === "up" || type === "ready" || type === "passed") return { type };
  if (type === "reloading") return { type, ordered: ordered === true, passes: passes === true };
  if (type === "failed" && typeof message === "string") return { type, message };
  if (type === "leaving" && isPositions(positions)) return { type, positions };
  return undefined;
}

/** A message to an instance, or `undefined` for anything else. */
export function parseToInstance(raw: unknown): ToInstance | undefined {
  const { type, message, address, passes } = (raw ?? {}) as Record<string, unknown>;
  if (type === "start" || type === "keep") return { type };
  if (type === "go") return { type, passes: passes === true };
  if (type === "refuse" && typeof message === "string") return { type, message };
  if (type === "leave" && typeof address === "string") return { type, address };
  return undefined;
}

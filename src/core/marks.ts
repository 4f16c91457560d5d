/**
 * What a preload (auto.ts) and the library know of the same objects. Each may be a file of its own,
 * with its own copy of this module: the symbols are those of the whole process.
 */

/** On a function that a preload has put in the place of another: the other one. */
const ORIGINAL: unique symbol = Symbol.for("@js0/reload-self original");
/** On a server that a preload has opened: what happened to it before the library knew it. */
const OPENED: unique symbol = Symbol.for("@js0/reload-self opened");
/** On a server whose application was told that it listens: it hears of it only once. */
const ANNOUNCED: unique symbol = Symbol.for("@js0/reload-self announced");
/** On the global object of a process whose servers are its own: the command line. */
const LEFT_ALONE: unique symbol = Symbol.for("@js0/reload-self left alone");
/** On a server that the library opens at this moment: what it calls may be replaced once more. */
const OPENING: unique symbol = Symbol.for("@js0/reload-self opening");
/**
 * On a server that counts as listening, and waits for the predecessor's socket: whether the member
 * is its own otherwise, too.
 */
const WAITING: unique symbol = Symbol.for("@js0/reload-self waiting");
/**
 * On a server that the application has closed while it waited for the predecessor's socket, or that
 * could not listen.
 */
const GIVEN_UP: unique symbol = Symbol.for("@js0/reload-self given up");
/** On the global object: the ports and paths of servers that are the process's own. */
const PRIVATE: unique symbol = Symbol.for("@js0/reload-self private");

/**
 * An event of a server with its arguments, and how many bytes had been written to the socket by
 * then, where that is asked for.
 */
export type ServerEvent = readonly [
  event: string,
  first: object,
  socket?: { readonly bytesWritten: number },
  written?: number,
];

interface Marked {
  [ORIGINAL]?: unknown;
  [OPENED]?: ServerEvent[] | undefined;
  [OPENING]?: boolean;
  [ANNOUNCED]?: boolean;
  [WAITING]?: boolean;
  listening?: boolean;
  [GIVEN_UP]?: boolean;
}

/** Puts a function in the place of another. */
export function replacing<F extends object>(original: unknown, replacement: F): F {
  return Object.defineProperty(replacement, ORIGINAL, { value: original });
}

/** The function that a preload has replaced, or the function itself. */
export function originalOf<F>(method: F): F {
  return ((method as Marked | undefined)?.[ORIGINAL] as F | undefined) ?? method;
}

/** A preload replaces nothing in this process. */
export function leaveProcessAlone(): void {
  Object.defineProperty(globalThis, LEFT_ALONE, { value: true, configurable: true });
}

/** Whether a preload has to leave this process alone. */
export function isLeftAlone(): boolean {
  return LEFT_ALONE in globalThis;
}

/** Notes where a server listens that is the process's own, and is not handed over. */
export function markPrivate(where: number | string): void {
  const globals = globalThis as { [PRIVATE]?: Set<number | string> };
  (globals[PRIVATE] ??= new Set()).add(where);
}

/** Whether the server at a port or a path is the process's own. */
export function isPrivate(where: number | string): boolean {
  return (globalThis as { [PRIVATE]?: ReadonlySet<number | string> })[PRIVATE]?.has(where) === true;
}

/** Notes that a server listens already, and what happens to it until the library knows it. */
export function markOpened(server: object): ServerEvent[] {
  const events: ServerEvent[] = [];
  Object.defineProperty(server, OPENED, { value: events, configurable: true });
  return events;
}

/** Whether a server was opened by a preload, listening or closed again by now. */
export function isOpened(server: object): boolean {
  return (server as Marked)[OPENED] !== undefined;
}

/** What happened to a server that a preload has opened. */
export function earlyEvents(server: object): readonly ServerEvent[] {
  return (server as Marked)[OPENED] ?? [];
}

/** The library has taken over a server: when it listens again, it opens it itself. */
export function forgetOpened(server: object): void {
  delete (server as Marked)[OPENED];
}

/** Calls a method of a server as if no preload had replaced it, or one that it calls. */
export function callOriginal<S extends object, A extends unknown[]>(
  server: S,
  method: (...args: A) => unknown,
  ...args: A
): void {
  const marked = server as Marked;
  Object.defineProperty(marked, OPENING, { value: true, configurable: true });
  try {
    originalOf(method).apply(server, args);
  } finally {
    delete marked[OPENING];
  }
}

/** Whether the library opens a server at this moment. */
export function isOpening(server: object): boolean {
  return (server as Marked)[OPENING] === true;
}

/** Notes whether the application was told that a server listens. */
export function markAnnounced(server: object, isAnnounced: boolean): void {
  Object.defineProperty(server, ANNOUNCED, { value: isAnnounced, configurable: true });
}

/** Whether the application was told that a server listens. */
export function isAnnounced(server: object): boolean {
  return (server as Marked)[ANNOUNCED] === true;
}

/** A server counts as listening before it does: frameworks look. */
export function beginWaiting(server: object): void {
  const marked = server as Marked;
  const hasOwn = Object.hasOwn(marked, "listening");
  Object.defineProperty(marked, WAITING, { value: hasOwn, configurable: true });
  if (hasOwn) marked.listening = true;
  else Object.defineProperty(marked, "listening", { value: true, configurable: true });
}

/** It listens now, or is closed. */
export function endWaiting(server: object): void {
  const marked = server as Marked;
  if (marked[WAITING] === false) delete marked.listening;
  else if (marked[WAITING] === true) marked.listening = false;
  delete marked[WAITING];
}

/** Whether it waits. */
export function isWaiting(server: object): boolean {
  return (server as Marked)[WAITING] !== undefined;
}

/**
 * Whether a preload has handed a server to the library: its application knows nothing of the token.
 */
export function isUnaware(server: object): boolean {
  return ANNOUNCED in server;
}

/** Notes whether the application has closed a server that waits. */
export function markGivenUp(server: object, isGivenUp: boolean): void {
  Object.defineProperty(server, GIVEN_UP, { value: isGivenUp, configurable: true });
}

/** Whether the application has closed a server that waits. */
export function isGivenUp(server: object): boolean {
  return (server as Marked)[GIVEN_UP] === true;
}

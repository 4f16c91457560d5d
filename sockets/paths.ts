import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/error.ts";
import type { Link, Participant } from "../core/participant.ts";
import type { SocketAdapter, SocketFiles } from "../core/socket_adapter.ts";
import { notListening } from "./missing.ts";
import { pause, untilNextLook } from "../core/pause.ts";

/** A path of a unix socket that this process serves, or is about to. */
interface Entry {
  readonly path: string;
  /** The name next to it under which our socket is made, and which our server removes when it closes. */
  readonly made: string;
  /** Is our socket there? */
  isMade: boolean;
  /** Is it what is found at the path? */
  isPlaced: boolean;
  /** Resolves when it is, or when it will be as soon as this process is in charge. */
  placing: Promise<void>;
}

/** The participant, and the way to get a path. */
export interface Paths {
  readonly participant: Participant;
  /** Does this process serve any? */
  readonly isServing: boolean;
  /**
   * The name to listen under instead of the path. When it is there, it is renamed to the path: at once, or when the predecessor
   * that serves the path lets go.
   */
  reserve(path: string): Promise<string>;
  /** Waits until the socket is at its path, or will be as soon as this process is in charge. */
  placed(path: string): Promise<void>;
}

/**
 * The longest path of a socket, in bytes, without its end; unix(7). Names next to it are longer by a dot and a pid.
 */
const LONGEST = 107;

/** The name next to a path under which a process makes its socket. */
function privateName(path: string, pid: number): string {
  return `${path}.${pid}`;
}

/**
 * The participant for unix sockets. Every process makes a socket of its own under a private name and renames it to the path:
 * that replaces the predecessor's in one step, so that there always is one to connect to, and what a server removes when
 * it closes is a name that nobody uses.
 */
export function createPaths(
  adapter: SocketAdapter,
  clock: Clock,
  pid: number,
  signal: AbortSignal,
  hasPredecessor: boolean,
  warn: (line: string) => void,
): Paths {
  const entries = new Map<string, Entry>();
  const known = Promise.withResolvers<void>();
  const complete = Promise.withResolvers<void>();
  if (!hasPredecessor) known.resolve();
  /** In the new process: what the old one serves and has not let go of. */
  let offered = new Set<string>();
  let toPredecessor: Link | undefined;
  /** In the old process: the paths that were offered to the new one, with its private names, and those for which it has made a socket. */
  let given = new Map<string, string>();
  let taken = new Set<string>();
  let replaced: Entry[] = [];

  /** Puts a socket at a path, with the mode of what was there. */
  function place(files: SocketFiles, made: string, path: string): void {
    if (files.kind(path) === "socket") files.chmod(made, files.mode(path));
    files.rename(made, path);
  }

  async function whenMade(entry: Entry): Promise<SocketFiles | undefined> {
    const files = await adapter.files();
    for (const begun = clock.now(); files.kind(entry.made) !== "socket";) {
      if (signal.aborted) return undefined;
      await pause(clock, untilNextLook(clock, begun));
    }
    entry.isMade = true;
    return files;
  }

  async function follow(entry: Entry): Promise<void> {
    const files = await whenMade(entry);
    if (files === undefined) return;
    if (!offered.has(entry.path)) {
      place(files, entry.made, entry.path);
      entry.isPlaced = true;
      return;
    }
    toPredecessor?.send({ made: entry.path }).catch(() => {});
    if ([...offered].every((path) => entries.get(path)?.isMade)) clock.timer(0, complete.resolve);
  }

  const participant: Participant = {
    name: "the unix sockets",
    inherit(link, isOffered) {
      toPredecessor = link;
      link.onData((data) => {
        const { paths } = data as { paths?: unknown };
        if (Array.isArray(paths)) offered = new Set(paths.filter((path) => typeof path === "string"));
      });
      isOffered.then(known.resolve);
      return isOffered.then(() => offered.size > 0 ? complete.promise : undefined);
    },
    async succeed(predecessor) {
      const mine = [...entries.values()].filter(({ path }) => offered.has(path));
      offered = new Set();
      for (const entry of mine) {
        if (!entry.isMade) continue;
        if (predecessor === "gone") place(await adapter.files(), entry.made, entry.path);
        entry.isPlaced = true;
      }
      known.resolve();
    },
    prepare() {
      given = new Map();
      taken = new Set();
      replaced = [];
    },
    async offer(link, context) {
      const placed = [...entries.values()].filter(({ isPlaced }) => isPlaced).map(({ path }) => path);
      if (placed.length === 0) return;
      given = new Map(placed.map((path) => [path, privateName(path, context.pid as number)]));
      link.onData((data) => {
        const { made } = data as { made?: unknown };
        if (typeof made === "string" && given.has(made)) taken.add(made);
      });
      await link.send({ paths: placed });
    },
    explain(code) {
      const missing = [...entries.values()].filter(({ path, isPlaced }) => isPlaced && !taken.has(path));
      return notListening(code, missing.map(({ path }) => path));
    },
    async commit() {
      if (taken.size === 0) return;
      const files = await adapter.files();
      for (const path of taken) {
        const entry = entries.get(path) as Entry;
        // Kept under the name it was made under, to be put back. What our server removes in the end is just that.
        if (files.kind(path) === "socket") files.link(path, entry.made);
        replaced.push(entry);
        place(files, given.get(path) as string, path);
      }
    },
    async rollback() {
      if (given.size === 0) return;
      const files = await adapter.files();
      for (const { path, made } of replaced) if (files.kind(made) === "socket") files.rename(made, path);
      // Also what the new process was killed before it could tell.
      for (const made of given.values()) files.remove(made);
    },
    async retire() {
      if (replaced.length === 0) return;
      const files = await adapter.files();
      for (const { made } of replaced) files.remove(made);
    },
  };

  return {
    participant,
    get isServing() {
      return entries.size > 0;
    },
    async reserve(path) {
      const made = privateName(path, pid);
      if (new TextEncoder().encode(made).length > LONGEST) {
        throw new TypeError(`path: ${path} is too long: with ".${pid}" behind it, it must not have more than ${LONGEST} bytes`);
      }
      const release = clock.hold();
      await known.promise;
      release();
      if (entries.has(path)) throw new TypeError(`path: ${path} is in use by this process already`);
      const files = await adapter.files();
      const kind = files.kind(path);
      if (kind === "other") throw new TypeError(`path: what is at ${path} is no socket; it is not replaced`);
      if (!offered.has(path) && kind === "socket" && await adapter.isServed(path)) {
        throw Object.assign(new Error(`EADDRINUSE: another program serves ${path}`), { code: "EADDRINUSE" });
      }
      files.remove(made); // Left behind by a process of that number that was killed.
      const entry: Entry = { path, made, isMade: false, isPlaced: false, placing: Promise.resolve() };
      entries.set(path, entry);
      entry.placing = follow(entry);
      entry.placing.catch((error) => warn(`the socket of ${path} could not be put there: ${describeError(error)}`));
      return made;
    },
    async placed(path) {
      await entries.get(path)?.placing;
    },
  };
}

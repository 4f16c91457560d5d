import { show } from "../core/check.ts";
import { describeError } from "../core/describe_error.ts";
import { nextCheck, pause } from "../core/pause.ts";
import type { FileAccess } from "../core/files.ts";
import type { SocketAdapter } from "../core/socket_adapter.ts";
import type { ProgramContext } from "../reload/context.ts";
import { explainMissing } from "./common.ts";
import type { Handover, IncomingHandover, IncomingReload, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import { explainAccess, setAccess } from "./socket_access.ts";

/** The path of a unix socket that this process serves, or is about to serve. */
interface Entry {
  readonly path: string;
  /** The name next to the path under which our socket is made, and which our server removes when it closes. */
  readonly made: string;
  /** Was our socket made? */
  isBound: boolean;
  /** Is our socket at the path? */
  isPlaced: boolean;
  /** Resolves when it is, or when it will be as soon as this process is in charge. */
  placing: Promise<void>;
}

/** The handover, and the way to get a path. */
export interface UnixSockets {
  readonly handover: Handover;
  /**
   * Returns the name to listen under instead of the path. The socket is renamed to the path: at once, or when the predecessor that serves
   * the path hands over.
   */
  reserve(path: string): Promise<string>;
  /** Whether a name was given out to listen under. */
  has(name: string): boolean;
  /** Resolves when the socket is at its path, or will be as soon as this process is in charge. */
  placed(path: string): Promise<void>;
}

/** The longest path of a socket, in bytes, without its final NUL; unix(7). */
const MAX_PATH_BYTES = 107;

/** The name next to a path under which a process makes its socket. */
function privateName(path: string, pid: number): string {
  return `${path}.${pid}`;
}

/**
 * The handover of unix sockets. Each process makes a socket under a private name and renames it to the path. That replaces the predecessor's
 * socket in one step, so that there is always one to connect to; and the name that a server removes when it closes is the private one.
 */
export function createUnixSockets(adapter: SocketAdapter, program: ProgramContext): UnixSockets {
  const { clock, hasPredecessor, pid, token, warn } = program;
  const files = adapter.files();
  const entries = new Map<string, Entry>();
  /** Resolves when it is known which paths the predecessor serves. */
  const known = Promise.withResolvers<void>();
  if (!hasPredecessor) known.resolve();
  /** The paths that the predecessor serves and has not handed over. */
  let offered: ReadonlySet<string> = new Set();
  let onMade = (_: Entry) => {};
  let isWarned = false;

  /** Who may connect at a path; `undefined` where there is no socket. */
  function accessAt(path: string): FileAccess | undefined {
    return files.kind(path) === "socket" ? files.access(path) : undefined;
  }

  /** Puts a socket at a path, for the users of the one that was there, which is kept under another name if one is given. */
  function place(made: string, path: string, kept?: string): void {
    const access = accessAt(path);
    const refused = access && setAccess(files, made, access);
    if (access !== undefined && kept !== undefined) keep(path, kept);
    files.rename(made, path);
    if (access === undefined || refused === undefined || isWarned) return;
    isWarned = true;
    warn(explainAccess(files, path, access, refused));
  }

  /** Gives a socket a second name, under which it is found when it has to be put back. */
  function keep(path: string, name: string): void {
    try {
      files.link(path, name);
    } catch {
      // Only its owner may do that where fs.protected_hardlinks is set; proc_sys_fs(5). The path leads nowhere for some microseconds then,
      // once: the new socket belongs to the user of this process.
      files.rename(path, name);
    }
  }

  async function follow(entry: Entry): Promise<void> {
    for (const begun = clock.now(); files.kind(entry.made) !== "socket";) {
      if (token.isCancelled) return;
      await pause(clock, nextCheck(clock, begun));
    }
    entry.isBound = true;
    if (offered.has(entry.path)) {
      // Also at once: whoever may connect to the private name is served.
      const access = accessAt(entry.path);
      if (access !== undefined) setAccess(files, entry.made, access);
      return onMade(entry);
    }
    place(entry.made, entry.path);
    entry.isPlaced = true;
  }

  function outgoing(reload: OutgoingReload): OutgoingHandover {
    const placed = () => [...entries.values()].filter(({ isPlaced }) => isPlaced).map(({ path }) => path);
    /** The new process's private names for the paths that are offered. */
    let given = new Map<string, string>();
    /** The paths for which the new process has made a socket. */
    const taken = new Set<string>();
    const replaced: Entry[] = [];
    /** Who may connect. Until it is in charge, the path leads the new process to this one's socket: what it changes there is undone. */
    const before = new Map<string, FileAccess>();
    return {
      prepare() {
        for (const path of placed()) {
          const access = accessAt(path);
          if (access !== undefined) before.set(path, access);
        }
      },
      async offer() {
        const paths = placed();
        if (paths.length === 0) return;
        given = new Map(paths.map((path) => [path, privateName(path, reload.pid as number)]));
        reload.link.onData(({ made }) => {
          if (typeof made === "string" && given.has(made)) taken.add(made);
        });
        await reload.link.send({ paths, pid });
      },
      commit() {
        for (const path of taken) {
          const entry = entries.get(path) as Entry;
          replaced.push(entry);
          place(given.get(path) as string, path, entry.made);
        }
      },
      retire() {
        for (const { made } of replaced) files.remove(made);
      },
      rollback() {
        const errors: string[] = [];
        const attempt = (work: () => void, path: string) => {
          try {
            work();
          } catch (error) {
            errors.push(`${path}: ${describeError(error)}`);
          }
        };
        for (const { path, made } of replaced) {
          attempt(() => files.kind(made) === "socket" && files.rename(made, path), path);
        }
        for (const [path, access] of before) {
          attempt(() => files.kind(path) === "socket" && setAccess(files, path, access), path);
        }
        // Also those that the new process was killed before it could report.
        for (const made of given.values()) attempt(() => files.remove(made), made);
        if (errors.length > 0) {
          throw new Error(`not put back: ${errors.join(", ")}; start the program again`);
        }
      },
      explain: (code) => explainMissing(code, placed().filter((path) => !taken.has(path))),
    };
  }

  function incoming(arrival: IncomingReload): IncomingHandover {
    const complete = Promise.withResolvers<void>();
    /** The names under which a predecessor that dies after its commit leaves its sockets behind. */
    let leftovers: string[] = [];
    arrival.link.onData(({ paths, pid: predecessor }) => {
      if (!Array.isArray(paths)) return;
      const strings = paths.filter((path) => typeof path === "string");
      offered = new Set(strings);
      if (Number.isSafeInteger(predecessor)) {
        leftovers = strings.map((path) => privateName(path, predecessor as number));
      }
    });
    arrival.offered.then(known.resolve);
    onMade = ({ path }) => {
      arrival.link.send({ made: path }).catch(() => {});
      if ([...offered].every((path) => entries.get(path)?.isBound)) {
        clock.timer(0, complete.resolve);
      }
    };

    return {
      complete: arrival.offered.then(() => offered.size > 0 ? complete.promise : undefined),
      takeOver(predecessor) {
        const mine = [...entries.values()].filter(({ path, isBound }) => offered.has(path) && isBound);
        offered = new Set();
        known.resolve();
        for (const entry of mine) {
          // It may have put the socket there before it died.
          if (predecessor === "gone" && files.kind(entry.made) === "socket") {
            place(entry.made, entry.path);
          }
          entry.isPlaced = true;
        }
      },
      over(predecessor) {
        for (const name of predecessor === "gone" ? leftovers : []) {
          if (files.kind(name) === "socket") files.remove(name);
        }
      },
    };
  }

  return {
    handover: { name: "the unix sockets", outgoing, incoming, isListening: () => entries.size > 0 },
    async reserve(path) {
      if (typeof path !== "string" || path === "") {
        throw new TypeError(`path: it must be a string, not ${show(path)}`);
      }
      const made = privateName(path, pid);
      if (new TextEncoder().encode(made).length > MAX_PATH_BYTES) {
        throw new TypeError(
          `path: ${path} is too long: with ".${pid}" appended it must not have more than ${MAX_PATH_BYTES} bytes`,
        );
      }
      const release = clock.hold();
      await known.promise;
      release();
      if (entries.has(path)) throw new TypeError(`path: ${path} is in use by this process already`);
      const kind = files.kind(path);
      if (kind === "other") {
        throw new TypeError(`path: the file at ${path} is no socket; it is not replaced`);
      }
      if (!offered.has(path) && kind === "socket" && await adapter.isServed(path)) {
        throw Object.assign(new Error(`EADDRINUSE: another program serves ${path}`), {
          code: "EADDRINUSE",
        });
      }
      files.remove(made); // Left behind by a killed process that had this pid.
      const entry: Entry = {
        path,
        made,
        isBound: false,
        isPlaced: false,
        placing: Promise.resolve(),
      };
      entries.set(path, entry);
      entry.placing = follow(entry);
      entry.placing.catch((error) => warn(`the socket of ${path} could not be moved to its path: ${describeError(error)}`));
      return made;
    },
    has: (name) => [...entries.values()].some(({ made }) => made === name),
    async placed(path) {
      await entries.get(path)?.placing;
    },
  };
}

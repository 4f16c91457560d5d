import { describeError } from "../../core/describe_error.ts";
import type { ReloadErrorCode } from "../../core/error.ts";
import type { FileAccess } from "../../core/files.ts";
import {
  parseUnixFromPredecessor,
  parseUnixFromSuccessor,
  type UnixFromPredecessor,
  type UnixFromSuccessor,
} from "../../protocol/sockets.ts";
import type {
  Departure,
  IncomingHandover,
  IncomingReload,
  OutgoingHandover,
  OutgoingReload,
} from "../../reload/handover.ts";
import { explainMissing, type Line, openLine } from "../common.ts";
import { accessAt, setAccess, temporaryPathOf } from "./placement.ts";
import type { UnixSocket, UnixSockets } from "./unix_sockets.ts";

/** The unix sockets in the old process. */
export class OutgoingUnix implements OutgoingHandover {
  readonly #own: UnixSockets;
  readonly #reload: OutgoingReload;
  readonly #line: Line<UnixFromSuccessor, UnixFromPredecessor>;
  /** The new process's temporary paths for the paths that are offered. */
  #given: ReadonlyMap<string, string> = new Map();
  /** The paths for which the new process has made a socket. */
  readonly #taken = new Set<string>();
  readonly #replaced: UnixSocket[] = [];
  /**
   * Who may connect. Until the new process is in charge, the path leads it to the socket of this
   * one: what it changes there is undone.
   */
  readonly #before = new Map<string, FileAccess>();

  constructor(own: UnixSockets, reload: OutgoingReload) {
    this.#own = own;
    this.#reload = reload;
    this.#line = openLine(reload.link, parseUnixFromSuccessor);
  }

  prepare(): void {
    for (const path of this.#placed()) {
      const access = accessAt(this.#own.files, path);
      if (access !== undefined) this.#before.set(path, access);
    }
  }

  async offer(): Promise<void> {
    const paths = this.#placed();
    if (paths.length === 0) return;
    const successor = this.#reload.pid as number;
    this.#given = new Map(paths.map((path) => [path, temporaryPathOf(path, successor)]));
    this.#line.onMessage(({ made }) => void (this.#given.has(made) && this.#taken.add(made)));
    await this.#line.send({ paths, pid: this.#own.pid });
  }

  commit(): void {
    for (const path of this.#taken) {
      const socket = this.#own.sockets.get(path) as UnixSocket;
      this.#replaced.push(socket);
      this.#own.place(this.#given.get(path) as string, path, socket.temporaryPath);
    }
  }

  retire(): void {
    for (const { temporaryPath } of this.#replaced) this.#own.files.remove(temporaryPath);
  }

  rollback(): void {
    const { files } = this.#own;
    const errors: string[] = [];
    const attempt = (path: string, work: () => void) => {
      try {
        work();
      } catch (error) {
        errors.push(`${path}: ${describeError(error)}`);
      }
    };
    for (const { path, temporaryPath } of this.#replaced) {
      const isKept = () => files.kind(temporaryPath) === "socket";
      attempt(path, () => isKept() && files.rename(temporaryPath, path));
    }
    for (const [path, access] of this.#before) {
      attempt(path, () => files.kind(path) === "socket" && setAccess(files, path, access));
    }
    // Also those that the new process was killed before it could report.
    for (const path of this.#given.values()) attempt(path, () => files.remove(path));
    if (errors.length === 0) return;
    throw new Error(`not put back: ${errors.join(", ")}; start the program again`);
  }

  explain(code: ReloadErrorCode): string | undefined {
    return explainMissing(code, this.#placed().filter((path) => !this.#taken.has(path)));
  }

  #placed(): string[] {
    const sockets = [...this.#own.sockets.values()];
    return sockets.filter(({ isPlaced }) => isPlaced).map(({ path }) => path);
  }
}

/** The unix sockets in the new process. */
export class IncomingUnix implements IncomingHandover {
  readonly ready: Promise<void>;
  readonly #own: UnixSockets;
  readonly #line: Line<UnixFromPredecessor, UnixFromSuccessor>;
  readonly #allBound = Promise.withResolvers<void>();
  /** Where a predecessor that dies after its commit leaves its sockets behind. */
  #leftovers: string[] = [];

  constructor(own: UnixSockets, { link, offered }: IncomingReload) {
    this.#own = own;
    this.#line = openLine(link, parseUnixFromPredecessor);
    this.#line.onMessage((message) => this.#learn(message));
    own.onBound = ({ path }) => this.#claim(path);
    offered.then(own.known.resolve);
    this.ready = offered.then(() => own.offered.size > 0 ? this.#allBound.promise : undefined);
  }

  takeOver(predecessor: Departure): void {
    const { files, known, offered, sockets } = this.#own;
    this.#own.offered = new Set();
    known.resolve();
    for (const socket of sockets.values()) {
      const { path, temporaryPath, isBound } = socket;
      if (!offered.has(path) || !isBound) continue;
      // The predecessor may have put the socket there before it died.
      const isLeft = predecessor === "gone" && files.kind(temporaryPath) === "socket";
      if (isLeft) this.#own.place(temporaryPath, path);
      socket.isPlaced = true;
    }
  }

  over(predecessor: Departure): void {
    const { files } = this.#own;
    for (const path of predecessor === "gone" ? this.#leftovers : []) {
      if (files.kind(path) === "socket") files.remove(path);
    }
  }

  #learn({ paths, pid }: UnixFromPredecessor): void {
    this.#own.offered = new Set(paths);
    if (pid !== undefined) this.#leftovers = paths.map((path) => temporaryPathOf(path, pid));
  }

  #claim(path: string): void {
    const { clock, offered, sockets } = this.#own;
    this.#line.post({ made: path });
    const isComplete = [...offered].every((path) => sockets.get(path)?.isBound);
    if (isComplete) clock.timer(0, this.#allBound.resolve);
  }
}

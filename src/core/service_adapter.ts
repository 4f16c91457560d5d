import type { Channel } from "./adapter.ts";
import type { Files } from "./files.ts";

/** The output to stderr since some moment. */
export interface ErrorOutput {
  /** Its end, a few thousand characters at most. */
  read(): string;
}

/** A check that `reload-self run` asks for. */
export interface CheckOrder {
  /** The address that has to answer. */
  readonly url: string;
  /** Milliseconds that it may take. */
  readonly timeout: number;
}

/** The `reload-self run` that started a process. */
export interface Supervisor {
  /** The folder of one instance of the program. */
  readonly folder: string;
  /** The number of instances. */
  readonly instances: number;
  /** The guard above this process, also where there is another process between them. */
  readonly guard?: number | undefined;
  /** How new versions are judged. */
  readonly check?: CheckOrder | undefined;
}

/** A symbolic link that led to the working directory of this process when it was started. */
export interface ReleaseLink {
  /** The working directory by way of the link. */
  readonly path: string;
  /** The working directory. */
  readonly directory: string;
  /**
   * Whether `PWD` names the working directory itself. It may be meant; but a shell that a package
   * manager starts there writes that, too: `pnpm -C current start`.
   */
  readonly isMeant: boolean;
  /** Whether the link still leads there. */
  leadsHere(): boolean;
}

/** What a service needs of a runtime when it starts. */
export interface BasicServiceAdapter {
  /** The value of a variable when the library was loaded. */
  variable(name: string): string | undefined;
  /** The operations on files. */
  files(): Files;
  /** Whether there is a process with this pid. */
  isAlive(pid: number): boolean;
  /**
   * When a process started: different for every process with the same pid. `undefined` where the
   * kernel does not show it.
   */
  startTime(pid: number): string | undefined;
  /** Calls back when this process exits by itself. The handler must be synchronous. */
  onExit(handler: () => void): void;
}

/** What the handovers of a service need of a runtime. */
export interface ServiceAdapter extends BasicServiceAdapter {
  /** The `reload-self run` in the environment. It may follow another process. */
  readonly supervisor: Supervisor | undefined;
  /**
   * A folder that only this user can read and write, made if necessary; `undefined` where that is
   * not possible.
   */
  runtimeFolder(): string | undefined;
  /** The output to stderr from now on, where stderr is a file. */
  errorOutput(): ErrorOutput | undefined;
  /**
   * A link through which this process may have been started without knowing it, so that a reload
   * does not follow it.
   */
  releaseLink(): ReleaseLink | undefined;
  /** The current parent of this process. */
  parent(): number;
  /**
   * Runs a program to its end. Rejects when it cannot be started, or when its exit code is not 0.
   */
  execute(file: string, args: readonly string[]): Promise<void>;
  /**
   * Answers requests of this user's other processes on a named pipe, a line each. Only on Windows,
   * where only a console can send signals. Does not keep the process alive. Rejects when the name
   * is taken.
   */
  serveNamedPipe?(name: string, answer: (question: string) => Promise<string>): Promise<void>;
  /**
   * Connects to a unix socket. The channel never keeps the process alive. Rejects when nobody
   * listens there.
   */
  connect(path: string): Promise<Channel>;
  /**
   * Calls back every so many milliseconds, without keeping the process alive. Returns a function
   * that stops it.
   */
  every(milliseconds: number, callback: () => void): () => void;
  /**
   * What keeps this process from ending. Node, and Bun as far as it knows: Deno does not show it.
   */
  holders?(): readonly string[];
}

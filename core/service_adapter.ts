import type { Channel } from "./adapter.ts";

/** Operations on small files, at once. They throw as the runtime does. */
export interface ServiceFiles {
  /**
   * The text of a file; `undefined` where there is none, or a link in its place. Throws for what is not an ordinary file, such as a
   * FIFO, which would keep this process waiting, and for what is larger than 256 KiB.
   */
  read(path: string): string | undefined;
  /** When the text was written, in milliseconds since 1970. */
  modified(path: string): number | undefined;
  /**
   * Replaces a file in one step. A link at the path is replaced, not followed.
   *
   * @param mode The permission bits, which the umask may narrow. Default: 0600, only its owner may read it.
   */
  replace(path: string, text: string, mode?: number): void;
  /** Makes a file that only its owner may read. Returns whether there was none. */
  create(path: string): boolean;
  /** Removes a file. */
  remove(path: string): void;
}

/** What is written to stderr from some moment on. */
export interface ErrorOutput {
  /** The last of it, a few thousand characters at most. */
  read(): string;
}

/** The `reload-self run` that a process was started by. */
export interface Supervisor {
  /** The folder in which it follows one instance of the program. */
  readonly folder: string;
  /** How many instances it keeps. */
  readonly instances: number;
  /** The guard that this process was started below, also where there is another process between them. */
  readonly guard?: number | undefined;
}

/** What service/ needs of a runtime. */
export interface ServiceAdapter {
  /** What the environment says about a `reload-self run`, which may be meant for another process. */
  readonly supervisor: Supervisor | undefined;
  /** A variable as it was when the library was loaded. */
  variable(name: string): string | undefined;
  /** The operations on files. */
  files(): ServiceFiles;
  /** A folder in which only this user can write and read, made when it is not there; `undefined` where there can be none. */
  runtimeFolder(): string | undefined;
  /** What is written to stderr from now on, where that is a file. */
  errorOutput(): ErrorOutput | undefined;
  /** Is there a process of this number? */
  isAlive(pid: number): boolean;
  /** The parent of this process, now. */
  parent(): number;
  /** When a process started, in a way that no other process of the same pid has; `undefined` where the kernel does not tell. */
  startTime(pid: number): string | undefined;
  /** Calls back, at once and without waiting for anything, when this process ends by itself. */
  onExit(handler: () => void): void;
  /** Runs a program to its end. Rejects when it cannot be started, and when its exit code is not 0. */
  execute(file: string, args: readonly string[]): Promise<void>;
  /**
   * Answers questions of this user's other processes, a line each, under a name: by a named pipe, on Windows only. It does not keep the
   * process alive. Rejects when the name cannot be had.
   */
  answer?(name: string, answer: (question: string) => Promise<string>): Promise<void>;
  /** Connects to a unix socket. The channel never keeps the process alive. Rejects when nobody listens there. */
  connect(path: string): Promise<Channel>;
  /** Calls back again and again after `milliseconds`, which does not keep the process alive. Returns the way to stop it. */
  every(milliseconds: number, callback: () => void): () => void;
}

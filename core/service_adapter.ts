/** Operations on small files, at once. They throw as the runtime does. */
export interface ServiceFiles {
  /** The text of a file; `undefined` where there is none. */
  read(path: string): string | undefined;
  /** When the text was written, in milliseconds since 1970. */
  modified(path: string): number | undefined;
  /** Replaces a file in one step by one that only its owner may read. A link at the path is replaced, not followed. */
  replace(path: string, text: string): void;
  /** Removes a file. */
  remove(path: string): void;
}

/** What is written to stderr from some moment on. */
export interface ErrorOutput {
  /** The last of it, a few thousand characters at most. */
  read(): string;
}

/** What service/ needs of a runtime. */
export interface ServiceAdapter {
  /** A variable as it was when the library was loaded. */
  variable(name: string): string | undefined;
  /** The operations on files. */
  files(): ServiceFiles;
  /** A folder in which only this user can write and read, made when it is not there; `undefined` where there can be none. */
  ownFolder(): string | undefined;
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
  /** Calls back again and again after `milliseconds`, which does not keep the process alive. Returns the way to stop it. */
  every(milliseconds: number, callback: () => void): () => void;
}

import type { ReloadErrorCode } from "./error.ts";

/** What a participant of one reload is told. */
export interface ReloadContext {
  /** Fires when the reload has failed or was given up: stop what you are doing. */
  readonly signal: AbortSignal;
  /** The generation of the new process. */
  readonly generation: number;
  /** The new process; `undefined` while nothing has been started. Until it has said hello, it may be what was started in its place. */
  readonly pid: number | undefined;
  /**
   * Lets PID 1 become the parent of the new process in a moment, while this one lives. Only where it was started `disowned`, and when this
   * process retires: how the new process ends is not known any more.
   *
   * @returns Whether that is possible.
   */
  disown(): Promise<boolean>;
}

/** A participant's own line to its namesake in the other process. */
export interface Link {
  /** Sends JSON-like data, and with it a listening socket, which stays open in this process too. */
  send(data: unknown, handle?: unknown): Promise<void>;
  /** Sets the receiver; data that came earlier is given to it first. It must check what it gets. */
  onData(receive: (data: unknown, handle?: unknown) => void): void;
}

/**
 * Whatever takes part in a reload: bound servers, the pid file, systemd. In the old process the transaction calls the steps
 * one participant after the other, in the order in which they were added, and `rollback` in the opposite order. Any step may
 * throw or reject: then the reload fails, and all who had been asked to prepare are rolled back, whichever step they had reached.
 */
export interface Participant {
  /** Names the participant in errors, and its namesake in the other process. */
  readonly name: string;
  /**
   * In the new process, when it starts: the line to the old one. `offered` resolves when the old process has offered all that it
   * has, or is gone. What is returned resolves when this process can stand in for the old one, as far as this participant knows,
   * and in a later turn of the event loop than that, so that a program which throws right after it listens is not ready; a program that does not say itself when it is ready (`ready: "auto"`) is ready then.
   */
  inherit?(link: Link, offered: Promise<void>): void | Promise<void>;
  /** In the new process: it is in charge, because the old one handed over or is gone. */
  succeed?(predecessor: "handed over" | "gone"): void;
  /** In the new process: the reload is over. The old one has retired, or is gone. */
  over?(): void;
  /** In a process without a predecessor: it is ready. */
  ready?(): void;
  /** Will this participant send listening sockets to the new process? Asked when all are prepared. */
  sendsSockets?(): boolean;
  /** Nothing has been started yet. */
  prepare?(context: ReloadContext): void | Promise<void>;
  /** The new process has been started, and loads its program meanwhile: the time for what it does not depend on. */
  started?(context: ReloadContext): void | Promise<void>;
  /** The channel to the new process is open; it has said hello, and it is not ready yet. */
  offer?(link: Link, context: ReloadContext): void | Promise<void>;
  /** The new process is ready: wait for whoever else has to be. Nobody commits before all have taken this step. */
  agree?(context: ReloadContext): void | Promise<void>;
  /** The new process is ready and about to be in charge. Must be undoable by `rollback` until this one retires. */
  commit?(context: ReloadContext): void | Promise<void>;
  /** Does this process listen anywhere? Then a new process is on probation, if the application does not say otherwise. */
  isListening?(): boolean;
  /** The reload failed: make undone what the other steps did, `handedOver` included. */
  rollback?(reason: Error): void | Promise<void>;
  /** What this participant can tell about why a reload failed in this way: a clause for its message. */
  explain?(code: ReloadErrorCode): string | undefined;
  /** In the old process: the new one is in charge, and on probation. */
  handedOver?(context: ReloadContext): void | Promise<void>;
  /**
   * In the old process, when the probation is over and before the token is cancelled: nothing can be undone any more. Let go of what may
   * not be there when the new one starts a reload of its own. `signal` fires when this process is told to shut down meanwhile.
   */
  retire?(signal: AbortSignal, context: ReloadContext): void | Promise<void>;
}

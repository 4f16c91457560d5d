/** What a participant of one reload is told. */
export interface ReloadContext {
  /** Fires when the reload has failed or was given up: stop what you are doing. */
  readonly signal: AbortSignal;
  /** The generation of the new process. */
  readonly generation: number;
  /** The new process; `undefined` while nothing has been started. */
  readonly pid: number | undefined;
}

/** A participant's own line to its namesake in the other process. */
export interface Link {
  /** Sends JSON-like data. */
  send(data: unknown): Promise<void>;
  /** Sets the receiver; data that came earlier is given to it first. It must check what it gets. */
  onData(receive: (data: unknown) => void): void;
}

/**
 * Whatever takes part in a reload: bound servers, the pid file, systemd. In the old process the transaction calls the steps
 * one participant after the other, in the order in which they were added, and `rollback` in the opposite order. Any step may
 * throw or reject: then the reload fails, and all who had been asked to prepare are rolled back, whichever step they had reached.
 */
export interface Participant {
  /** Names the participant in errors, and its namesake in the other process. */
  readonly name: string;
  /** In the new process, when it starts: the line to the old one. */
  inherit?(link: Link): void;
  /** Nothing has been started yet. */
  prepare?(context: ReloadContext): void | Promise<void>;
  /** The channel to the new process is open; it has said hello, and it is not ready yet. */
  offer?(link: Link, context: ReloadContext): void | Promise<void>;
  /** The new process is ready and about to be in charge. Must be undoable by `rollback` until the token is cancelled. */
  commit?(context: ReloadContext): void | Promise<void>;
  /** The reload failed: make undone what the other steps did. */
  rollback?(reason: Error): void | Promise<void>;
}

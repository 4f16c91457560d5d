import type { DescriptorChannel } from "../core/adapter.ts";
import type { ReloadErrorCode } from "../core/error.ts";
import type { HandoverData } from "../protocol/reload.ts";

/** The line from a handover to its namesake in the other process. */
export interface Link {
  /** Whether listening sockets can be sent. Known once the new process was started. */
  readonly sendsHandles: boolean;
  /** Passes descriptors, where that is possible. Known once the new process was started. */
  readonly descriptors: DescriptorChannel | undefined;
  /** Sends JSON-like data, and with it a listening socket, which stays open in this process too. */
  send(data: HandoverData, handle?: unknown): Promise<void>;
  /**
   * Sets the receiver; data that came earlier is given to it first. The receiver must check the
   * members of what it gets. When it throws or rejects, the other process has sent something that
   * is not understood.
   */
  onData(receive: (data: HandoverData, handle?: unknown) => void | Promise<void>): void;
}

/** How a predecessor left: it handed over as agreed, or it died. */
export type Departure = "handed over" | "gone";

/** What a handover has done with connections. */
export interface MovedConnections {
  /** Those that waited for a request, or those that the application has let go of. */
  readonly kind: "idle" | "live";
  readonly moved: number;
  /** Those that stay in the old process, which drains them. */
  readonly left: number;
  /** From the first attempt until the last one was taken. */
  readonly milliseconds: number;
}

/** One reload, as a handover in the old process sees it. */
export interface OutgoingReload {
  /** Fires when the reload has failed or was given up: every step must stop. */
  readonly signal: AbortSignal;
  /** The generation of the new process. */
  readonly generation: number;
  /**
   * The new process, once it was started. Until it has said hello, this may be a wrapper that was
   * started in its place.
   */
  readonly pid: number | undefined;
  /** To the new process. Nothing can be sent before `offer`. */
  readonly link: Link;
  /**
   * Makes PID 1 the parent of the new process while this one lives. For `retire` only: the exit
   * status of the new process is lost.
   *
   * @returns Whether that was possible. Only a process that was started `disowned` has such a
   * parent.
   */
  disown(): Promise<boolean>;
}

/**
 * The part of a handover in the old process, for one reload. The steps are listed in the order in
 * which they are taken; each is taken by one handover after the other. A step up to `commit` that
 * throws fails the reload.
 */
export interface OutgoingHandover {
  /** Nothing has been started yet. */
  prepare?(): void | Promise<void>;
  /** All handovers are prepared; the new process is started next. */
  beforeStart?(): void;
  /** Whether this handover will send listening sockets. Asked after `beforeStart`. */
  sendsSockets?(): boolean;
  /**
   * Whether this handover will send descriptors, where that is possible. Asked after `beforeStart`.
   */
  sendsDescriptors?(): boolean;
  /**
   * What the new process must know of sockets when it opens its own: a list, in JSON. Asked after
   * `beforeStart`.
   */
  native?(): readonly object[];
  /** The new process was started and loads its program meanwhile. */
  started?(): void | Promise<void>;
  /** The new process has said hello. It is not ready yet. */
  offer?(): void | Promise<void>;
  /**
   * The new process is ready. Waits for others that have to be ready too; nobody commits before all
   * have agreed.
   */
  agree?(): void | Promise<void>;
  /**
   * The new process is about to be in charge. `rollback` must be able to undo this step until the
   * probation is over.
   */
  commit?(): void | Promise<void>;
  /** The new process is in charge, and on probation. */
  handedOver?(): void | Promise<void>;
  /**
   * All handovers have handed over, and the new process has passed its check. Waits for others that
   * have to pass too: no connection moves before all have. When it throws, the reload fails as if
   * the check had.
   */
  passed?(): void | Promise<void>;
  /** The new process has passed, the others too, and the probation begins. Not waited for. */
  onProbation?(): void;
  /**
   * The probation is over, and the new process is about to be on its own. What takes time and can
   * still be undone is done here: should the new process die meanwhile, `rollback` follows.
   *
   * @param hurry Fires when this process is told to shut down meanwhile.
   */
  beforeRetire?(hurry: AbortSignal): void | Promise<void>;
  /** The connections that it has moved, or could have moved. Asked after `beforeRetire`. */
  moved?(): MovedConnections | undefined;
  /**
   * The probation is over: nothing can be undone any more. Releases what the new process needs for
   * a reload of its own.
   *
   * @param shutdown Fires when this process is told to shut down meanwhile.
   */
  retire?(shutdown: AbortSignal): void | Promise<void>;
  /**
   * Instead of `retire`: the reload failed. Undoes the steps that were taken; also called when
   * `prepare` itself threw. The new process has ended, unless it has failed its check: then it
   * lives on, to finish what it has begun.
   */
  rollback?(reason: Error): void | Promise<void>;
  /** After `rollback`, for a new process that has failed its check: it has ended. */
  ended?(): void | Promise<void>;
  /** A clause for the message of a failed reload: what this handover knows about the reason. */
  explain?(code: ReloadErrorCode): string | undefined;
}

/** The start of a successor, as a handover in the new process sees it. */
export interface IncomingReload {
  /** To the old process. */
  readonly link: Link;
  /** Resolves when the old process has offered all that it has, or is gone. */
  readonly offered: Promise<void>;
}

/** The part of a handover in the new process. */
export interface IncomingHandover {
  /**
   * Resolves when this process can replace the old one, as far as this handover knows. Must resolve
   * in a later turn of the event loop than the application's call that completed it: a program that
   * throws right after it listens is not ready.
   */
  readonly ready?: Promise<unknown>;
  /** This process is in charge. */
  takeOver?(predecessor: Departure): void;
  /**
   * This process has failed its check, and the old one is in charge again: it stops accepting. The
   * token is cancelled next.
   */
  revoke?(): void | Promise<void>;
  /**
   * The reload is over: the old process has retired as agreed, or has died, perhaps after it had
   * handed over.
   */
  over?(predecessor: Departure): void;
}

/**
 * Something that passes from one process to the next: listening sockets, the pid file, the main
 * process of a systemd unit. It makes a new object for each reload, so that nothing of one reload
 * is left in the next.
 */
export interface Handover {
  /** Names the handover in errors, and its namesake in the other process. */
  readonly name: string;
  /** Called in the old process when a reload begins. */
  outgoing?(reload: OutgoingReload): OutgoingHandover;
  /** Called in a successor when it starts. */
  incoming?(arrival: IncomingReload): IncomingHandover;
  /** Called in a process without a predecessor when it is ready. */
  ready?(): void;
  /** Whether this process listens anywhere. If so, a new process is put on probation by default. */
  isListening?(): boolean;
}

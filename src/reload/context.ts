import type { Clock, StartRequest } from "../core/adapter.ts";
import type { ReloadEvent } from "../core/event.ts";
import type { ListenOptions } from "../core/options.ts";
import type { CancellationToken, Token } from "../core/token.ts";
import type { Handover } from "./handover.ts";
import type { DatagramSockets } from "../resources/datagram_sockets.ts";
import type { LiveGroups } from "../resources/live_groups.ts";
import type { WrappedHandlers } from "../drain/fetch.ts";
import type { NativeServers } from "../resources/native_servers.ts";

/** The program, as its parts see it. */
export interface ProgramContext {
  readonly pid: number;
  readonly runtime: string;
  readonly generation: number;
  /** The signals that reload by default. */
  readonly reloadSignals: readonly string[];
  readonly clock: Clock;
  readonly options: ListenOptions;
  readonly token: CancellationToken;
  readonly wrapped: WrappedHandlers;
  /** As in `NativeHost`. */
  answered(): Promise<unknown>;
  readonly live: LiveGroups;
  readonly natives: NativeServers;
  readonly datagrams: DatagramSockets;
  readonly hasPredecessor: boolean;
  /**
   * Resolves when the reload that this process came from is over: until then connections of the
   * predecessor may come, and it has its sockets.
   */
  readonly arrived: Promise<unknown>;
  /** As {@linkcode Token.reload}. */
  reload(): Promise<number>;
  emit(event: ReloadEvent): void;
  /** Reports something that is not as it should be. */
  warn(message: string): void;
}

/** What the program is made of, besides its core. */
export interface ProgramParts {
  /** What passes from one process to the next, in the order of the steps. */
  readonly handovers: readonly Handover[];
  /** The members of the token that its handovers bring along. */
  readonly members: Pick<Token, "bind" | "path">;
  /** As {@linkcode Token.inheritedState}. */
  inheritedState(): Promise<unknown>;
  /** Resolves when every server listens that has begun to. */
  listening(): Promise<unknown>;
  /** Variables to set for a new process, or, where `undefined`, to remove. */
  readonly env: StartRequest["env"];
  /** How new processes are started. */
  readonly how: StartRequest["how"];
  /** The `reload-self run` that is to follow new processes. */
  readonly supervisor: StartRequest["supervisor"];
}

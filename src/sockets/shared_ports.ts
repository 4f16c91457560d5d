import type { Positions } from "../protocol/instances.ts";

/** The agreement of instances that share ports. */
export interface SharedPorts {
  /** Must be called before anything is started: the new processes have to open their sockets one process after the other. */
  needOrder(): void;
  /**
   * Resolves with an address when the last socket of this process may leave there, because it is the last of all processes. With empty
   * `positions` it only reports that all sockets have left.
   */
  turn(positions: Positions): Promise<string | undefined>;
}

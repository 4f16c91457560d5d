import type { Token } from "./token.ts";

/** The program, as the patches of a preload see it; see auto.ts. */
export interface AutoHost {
  /** Whether this process replaces another: its servers wait for the sockets of that. */
  readonly isSuccessor: boolean;
  /**
   * Whether a first generation may open its sockets itself. Not where they come from systemd, or
   * are shared with other instances.
   */
  readonly opensItself: boolean;
  /** The token of this process. The first call begins the program. */
  begin(): Token;
  /** Writes a line for people, each only once. */
  say(line: string): void;
}

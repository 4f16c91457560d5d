/** What instances of a program that share ports have to agree about. */
export interface SharedPorts {
  /**
   * To be said before anything is started: the sockets of the new processes must be opened in a known order, one process after the
   * other.
   */
  needOrder(): void;
  /**
   * Resolves with the address whose last socket of this process is to leave now, because it is the last of all processes. Without any
   * it says only that nothing is left.
   *
   * @param positions By address: where the sockets of this process that have not left are among those of all.
   */
  turn(positions: Readonly<Record<string, readonly number[]>>): Promise<string | undefined>;
}

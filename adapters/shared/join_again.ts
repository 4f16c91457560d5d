/** Joining a group, on a socket that may be a member already. */

type Join = (...args: string[]) => unknown;

/** Whether the kernel says that a socket is a member already; ip(7). */
export function isMemberByCode(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === "EADDRINUSE";
}

/**
 * Joining a group of which the predecessor's socket is a member is no error: it is the application's first time.
 *
 * @param isMember Whether an attempt failed for that reason.
 * @param joined What the method returns when it succeeds.
 */
export function joinAgain(
  socket: object,
  isMember: (error: unknown, method: string, args: readonly string[]) => boolean,
  joined?: unknown,
): void {
  for (const method of ["addMembership", "addSourceSpecificMembership"]) {
    const join = (socket as Record<string, Join>)[method] as Join;
    const value: Join = (...args) => {
      try {
        return join.apply(socket, args);
      } catch (error) {
        if (!isMember(error, method, args)) throw error;
        return joined;
      }
    };
    Object.defineProperty(socket, method, { configurable: true, writable: true, value });
  }
}

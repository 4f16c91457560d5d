/** What opening a datagram socket on that of the predecessor has in common on all runtimes. */

/** The opening of a socket. */
export interface Opening<T> {
  /** Resolves when it is open; rejects when that has failed for good. */
  readonly opened: Promise<T>;
  readonly hasFailed: boolean;
  /** The last attempt. Returns what comes of it. */
  settle(opening: Promise<T>): Promise<T>;
}

/** Nothing has been tried yet. */
export function createOpening<T>(): Opening<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  promise.catch(() => {}); // May reject before anybody waits.
  let hasFailed = false;
  return {
    opened: promise,
    get hasFailed() {
      return hasFailed;
    },
    async settle(opening) {
      try {
        const socket = await opening;
        resolve(socket);
        return socket;
      } catch (error) {
        hasFailed = true;
        reject(error);
        throw error;
      }
    },
  };
}

type Join = (...args: string[]) => unknown;

/** Whether the error of the kernel means that a socket is a member already; ip(7). */
export function isMemberByCode(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === "EADDRINUSE";
}

/**
 * Joining a group of which the predecessor's socket is a member is no error: it is the
 * application's first time.
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

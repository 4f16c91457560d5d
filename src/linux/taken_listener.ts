/** A listening socket that is taken out of its server for a while, and given back. */
import type { Libc, Polled, Registration } from "../core/socket_adapter.ts";
import { hasWaiting } from "./listeners.ts";
import { socketInode } from "./proc_files.ts";
import { scanSockets } from "./socket_scan.ts";
import { giveBack, type Refusal, takeListener, type TakenListener } from "./transplant.ts";

/** A server that can be kept from accepting what comes to its socket. */
export interface Takeable {
  /**
   * Its descriptor: that of the socket, or, while the socket is taken out, of a substitute from
   * which the server accepts.
   */
  readonly fd: number;
  /** Whether connections wait in the socket, which are reset when it is closed. */
  readonly hasWaiting: boolean;
  /** Takes the socket out, unless it is out already. */
  take(): Refusal | undefined;
  /** Gives it back when it was called as often as `take`. */
  giveBack(): Refusal | undefined;
  /** Closes the socket that was taken out. */
  close(): void;
}

/**
 * The socket below a descriptor that a server polls. Its reasons to be out may overlap.
 *
 * @param polled How it is polled. Default: what a scan finds when it is needed.
 */
export function takeable(libc: Libc, fd: number, polled?: Polled): Takeable {
  let taken: TakenListener | undefined;
  let reasons = 0;
  let known: Registration | undefined;

  /** How the descriptor is polled, which stays the same whatever is below it. */
  function registrations(): Registration[] {
    const inode = socketInode(libc, fd);
    known ??= (polled ?? scanSockets(libc)).registrations(fd).find((one) => one.inode === inode);
    // Where the socket is not taken out, another file means that the server has closed it.
    const isOther = taken === undefined && known?.inode !== inode;
    return known === undefined || inode === undefined || isOther ? [] : [{ ...known, inode }];
  }
  const scan = { registrations };

  return {
    fd,
    get hasWaiting() {
      return hasWaiting(libc, taken?.real ?? fd);
    },
    take() {
      if (taken === undefined) {
        const result = takeListener(libc, scan, fd);
        if (typeof result === "string") return result;
        taken = result;
      }
      reasons++;
      return undefined;
    },
    giveBack() {
      if (taken === undefined || --reasons > 0) return undefined;
      const refusal = giveBack(libc, scan, taken);
      if (refusal !== undefined) libc.close(taken.real);
      taken = undefined;
      return refusal;
    },
    close() {
      if (taken !== undefined) libc.close(taken.real);
      taken = undefined;
    },
  };
}

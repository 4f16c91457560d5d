/** How many sockets a process is started with by systemd, or in systemd's way; sd_listen_fds(3). */
import type { Environment } from "./environment.ts";

/** The number of the first of them. The channel to the predecessor comes after the last. */
export const FIRST = 3;
/** The usual limit of open files: a larger number is a mistake. */
const MOST = 1024;

/** The number of sockets that this process was started with, by systemd or by its predecessor. */
export function countActivated(env: Environment, pid: number, isSuccessor: boolean): number {
  const { LISTEN_FDS, LISTEN_PID } = env;
  if (LISTEN_FDS === undefined || !/^\d{1,4}$/.test(LISTEN_FDS) || Number(LISTEN_FDS) > MOST) {
    return 0;
  }
  const isOurs = LISTEN_PID === String(pid) || (isSuccessor && LISTEN_PID === undefined);
  return isOurs ? Number(LISTEN_FDS) : 0;
}

/** The variables for a new process. Its pid is not known before it is started. */
export function activationVariables(count: number): Environment {
  return count > 0
    ? { LISTEN_PID: undefined }
    : { LISTEN_PID: undefined, LISTEN_FDS: undefined, LISTEN_FDNAMES: undefined };
}

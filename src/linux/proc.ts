/** Formats of /proc. */

/** The state of a listening socket in /proc/net/tcp. */
const LISTENING = "0A";

/**
 * The address and the port of a socket in /proc/net/tcp: numbers of 32 bits in the byte order of
 * the machine; proc_net(5).
 */
function parseEndpoint(field: string): { bytes: Uint8Array; port: number } {
  const [words = "", port = ""] = field.split(":");
  const numbers = Uint32Array.from(words.match(/.{8}/g) ?? [], (word) => parseInt(word, 16));
  return { bytes: new Uint8Array(numbers.buffer), port: parseInt(port, 16) };
}

/** The listening sockets in /proc/net/tcp or tcp6; proc_net(5). */
export function parseListeners(
  table: string,
): { bytes: Uint8Array; port: number; inode: string }[] {
  return table.split("\n").flatMap((line) => {
    const [, local = "", , state, , , , , , inode = ""] = line.trim().split(/\s+/);
    return state === LISTENING ? [{ ...parseEndpoint(local), inode }] : [];
  });
}

/**
 * Whether a part of /proc/net/tcp contains all listening sockets. They come first. A busy server
 * has a hundred thousand sockets behind them that were closed a moment ago.
 */
export function hasAllListeners(part: string): boolean {
  return /^ *\d+: [0-9A-F]+:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} (?!0A)/m.test(part);
}

/**
 * The inode of the socket that a descriptor leads to, from its link in /proc/self/fd; `undefined`
 * for another file; proc_pid_fd(5).
 */
export function parseSocketInode(link: string | undefined): string | undefined {
  return /^socket:\[(\d+)\]$/.exec(link ?? "")?.[1];
}

/**
 * When a process started, in clock ticks since the machine did, from the text of /proc/PID/stat,
 * field 22; proc(5). No two processes with the same pid have the same start time, and setting the
 * clock does not change it.
 */
export function parseStartTime(stat: string): string | undefined {
  // The name in the second field may contain spaces and parentheses.
  const [ticks] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(19);
  return ticks !== undefined && /^\d+$/.test(ticks) ? ticks : undefined;
}

/**
 * Whether a process has ended, from the text of /proc/PID/stat: a zombie stays until its parent
 * asks for it, which process 1 of a container may never do; proc_pid_stat(5).
 */
export function hasEnded(stat: string): boolean {
  return /^[ZX] /.test(stat.slice(stat.lastIndexOf(")") + 2));
}

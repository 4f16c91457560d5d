/**
 * Starting a process whose parent can become PID 1 while the process that started it lives: systemd
 * accepts only its own child as the main process of a service. The kernel changes a parent only
 * when that ends, and the runtimes close the channel to a process when their child ends. Therefore
 * there are two shells between the old process and the new one: the keeper, which stays as long as
 * the old process, and below it the guard, which ends on request.
 */
import type { ExitStatus } from "../../src/core/adapter.ts";
import type { CommandLine } from "./command_line.ts";

/** The request to the keeper, on its stdin. */
export const DISOWN = "disown\n";
/**
 * A shell redirects only descriptors of one digit: 8 and 9 are for the scripts, 3 and up for the
 * sockets and the channel.
 */
export const MOST_SOCKETS = 4;

/**
 * Exit codes of the guard. For a signal, shells have 128 and its number; SIGKILL has another code,
 * because it also ends the guard itself.
 */
const SIGNALLED = 128;
const KILLED = 200;

/** Names this shell as the parent of the program: see src/protocol/handshake.ts. */
const MEANT = `[ -z "$RELOAD_SELF_PARENT" ] || export RELOAD_SELF_PARENT="\${RELOAD_SELF#*:}:$$"`;

const GUARD = `${MEANT}
(read line <&9 && kill -9 $$) 2>/dev/null 8>&- &
"$0" "$@" 2>&8 8>&- 9<&-
code=$?
kill $!
[ $code = 137 ] && code=${KILLED}
exit $code`;

/**
 * Closes the channel, if it has inherited one, so that the end of the channel is noticed, and waits
 * for the old process to end.
 */
const KEEPER = `exec 9<&0 8>&2 </dev/null 2>/dev/null
/bin/sh -c "$0" "$@"
code=$?
[ $code = 137 ] || exit $code
exec 8>&-
[ -z "$NODE_CHANNEL_FD" ] || eval "exec $NODE_CHANNEL_FD>&-"
while read line <&9; do :; done`;

/**
 * Notes in the folder of `reload-self run` that a process lives, and how it has ended: only its
 * parent learns that, and the process that started it may be gone by then. A signal to the whole
 * process group is for the process: the guard outlives it. A shell runs its traps when the command
 * has ended that it waits for, and the command has none of them: once the file is there, no signal
 * is lost.
 */
const NOTING_GUARD = `folder=$RELOAD_SELF_RUN
${MEANT}
export RELOAD_SELF_GUARD=$$
trap : HUP INT QUIT TERM USR1 USR2
(: > "$folder/guard.$$"
exec "$0" "$@")
code=$?
echo $code > "$folder/exit.$$.new" && mv "$folder/exit.$$.new" "$folder/exit.$$"
rm -f "$folder/guard.$$"
exit $code`;

/**
 * The guard of a command for `reload-self run`. The name that the executable was called by is lost.
 */
export function guarded({ file, args }: CommandLine, shell: string): CommandLine {
  return { file: shell, args: ["-c", NOTING_GUARD, file, ...args] };
}

/** The keeper of a command. The name that the executable was called by is lost. */
export function kept({ file, args }: CommandLine, shell: string): CommandLine {
  return { file: shell, args: ["-c", KEEPER, GUARD, file, ...args] };
}

/** The signals that end processes; signal(7). */
const SIGNALS: Record<number, string> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  4: "SIGILL",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  9: "SIGKILL",
  11: "SIGSEGV",
  13: "SIGPIPE",
  14: "SIGALRM",
  15: "SIGTERM",
};

/** How a command ended, from the exit status of its keeper. */
export function statusOf({ code, signal }: ExitStatus): ExitStatus {
  if (code === null || code <= SIGNALLED) return { code, signal };
  const number = code === KILLED ? 9 : code - SIGNALLED;
  return { code: null, signal: SIGNALS[number] ?? `signal ${number}` };
}

/**
 * Starting a successor with node:child_process, which Node, Bun and Deno all have. The adapter
 * loads that module.
 */
import type * as ChildProcessModule from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { DISOWN, guarded, kept, MOST_SOCKETS, statusOf } from "./reparent.ts";
import type {
  Channel,
  DescriptorChannel,
  ExitStatus,
  StartedProcess,
  StartRequest,
} from "../../src/core/adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import { describeError } from "../../src/core/describe_error.ts";
import { ReloadError } from "../../src/core/error.ts";
import { activationVariables } from "./listen_fds.ts";
import { handshake, supervision } from "../../src/protocol/handshake.ts";
import type { CommandLine } from "./command_line.ts";
import { freeInspectorVariables } from "./inspector.ts";
import { type Environment, type EnvironmentHistory, successorEnvironment } from "./environment.ts";
import { type Carries, createChannel, type Endpoint } from "./node_channel.ts";

/** A child process. */
export interface Child {
  readonly pid: number;
  readonly channel: Channel;
  /** Resolves when it has ended and been reaped. Never rejects. */
  readonly exited: Promise<ExitStatus>;
  /** Writes to its stdin. Resolves with whether that was possible. */
  tell(text: string): Promise<boolean>;
  /** Ends it at once, without its own children. */
  kill(): void;
  /** From now on neither it nor the channel keeps this process alive. */
  unref(): void;
}

/**
 * Starts a process in a session of its own, with our stdout and stderr, a channel, and, if asked
 * for, a stdin to write to.
 */
export type Spawn = (
  command: CommandLine,
  cwd: string,
  env: Environment,
  hasStdin: boolean,
) => Child | Promise<Child>;

/** What the start of a successor needs. */
export interface SuccessorPlan {
  /** This process. */
  pid: number;
  spawn: Spawn;
  /** Signals a process group, or throws where that is not allowed. */
  kill(pid: number, signal: "SIGKILL"): void;
  what: CommandLine;
  cwd: string;
  history: EnvironmentHistory;
  request: StartRequest;
  /** The number of systemd's sockets that are passed on. */
  sockets: number;
  /** The shell to start it with, where it is not started plainly. */
  shell: string | undefined;
  /** Passes descriptors to it. */
  descriptors?: DescriptorChannel | undefined;
  /** Further variables of the handshake. */
  variables?: Environment | undefined;
}

/**
 * Starts the successor of this process. Throws a ReloadError with the reason where that is not
 * possible.
 */
export async function startSuccessor(plan: SuccessorPlan): Promise<StartedProcess> {
  const { pid: self, spawn, kill, what, cwd, history, request, sockets, shell, descriptors } = plan;
  const { command: own, env, generation, how, supervisor } = request;
  const activation = activationVariables(sockets);
  const keep = how === "disowned" && shell !== undefined && sockets <= MOST_SOCKETS;
  const guard = how === "guarded" && shell !== undefined;
  const command = keep ? kept(what, shell) : guard ? guarded(what, shell) : what;
  const inherited = successorEnvironment(history);
  const variables = {
    ...inherited,
    ...freeInspectorVariables(inherited),
    ...activation,
    ...env,
    ...(supervisor && supervision(supervisor)),
    ...handshake(generation, own === undefined ? self : undefined),
    ...plan.variables,
  };
  let child: Child;
  try {
    child = await spawn(command, cwd, variables, keep);
  } catch (cause) {
    descriptors?.close();
    throw startError(what.file, cwd, cause);
  }
  const { pid, channel } = child;
  let running = true;
  let disowned = false;
  const exited = Promise.withResolvers<ExitStatus>();
  child.exited.then((status) => {
    running = false;
    // A shell above it was killed: what that has started would go on.
    if ((keep || guard) && !disowned && status.signal !== null) {
      attempt(() => kill(-pid, "SIGKILL"));
    }
    if (!disowned) exited.resolve(keep || guard ? statusOf(status) : status);
  });
  return {
    pid,
    channel,
    descriptors,
    exited: exited.promise,
    async disown() {
      if (!keep || !running) return false;
      disowned = true;
      channel.onClose(() => exited.resolve({ code: null, signal: null }));
      return await child.tell(DISOWN);
    },
    kill() {
      if (!running) return; // Another process may have the pid by now.
      try {
        kill(-pid, "SIGKILL"); // The whole process group: also what it has started.
      } catch {
        child.kill();
      }
    },
    release: child.unref,
  };
}

/**
 * Starts processes with node:child_process. They inherit `sockets`, under the same numbers.
 *
 * @param last A further descriptor: its number there is `lastNumber`.
 */
export function spawnWithNode(
  { spawn }: typeof ChildProcessModule,
  sockets: readonly (number | "ignore")[],
  carries: Carries,
  last?: number,
): Spawn {
  return async ({ file, argv0, args }, cwd, env, hasStdin) => {
    const stdio = [
      hasStdin ? "pipe" as const : "ignore" as const,
      "inherit" as const,
      "inherit" as const,
      ...sockets,
      "ipc" as const,
      ...last === undefined ? [] : [last],
    ];
    const child = spawn(file, args, { argv0, cwd, env, detached: true, stdio });
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => {});
    // Stays: an error event without a listener would end this process.
    child.on("error", failed.reject);
    const { pid } = child;
    if (pid === undefined) return await failed.promise;
    const exited = Promise.withResolvers<ExitStatus>();
    child.once("exit", (code, signal) => exited.resolve({ code, signal }));
    return {
      pid,
      channel: createChannel(child as ChildProcess & Endpoint, carries),
      exited: exited.promise,
      tell(text) {
        const { promise, resolve } = Promise.withResolvers<boolean>();
        child.stdin?.write(text, (error) => resolve(!error));
        return promise;
      },
      kill: () => void child.kill("SIGKILL"),
      unref() {
        child.unref();
        // Bun has no such method: there the channel does not keep this process alive.
        child.channel?.unref?.();
      },
    };
  };
}

/**
 * The number that the last descriptor of `spawnWithNode` has in the new process: behind stdio,
 * `sockets`, and the channel.
 */
export function lastNumber(sockets: readonly unknown[]): number {
  return 3 + sockets.length + 1;
}

/**
 * The error of a failed start. The runtimes name the executable also when the directory is missing.
 */
export function startError(file: string, cwd: string, cause: unknown): ReloadError {
  const code = (cause as { code?: unknown } | null)?.code;
  const where = `${file} in ${cwd}`;
  const why: Record<string, string> = {
    ENOENT: "there is no such executable, or no such directory",
    EACCES: "it is not executable, or the directory cannot be entered",
    EMFILE: "this process has no file descriptors left",
    ENFILE: "the system has no file descriptors left",
    EAGAIN: "the limit of processes is reached",
    ENOMEM: "there is not enough memory",
    E2BIG: "the arguments and the environment are too long",
    ERR_ACCESS_DENIED: "Node's permission model forbids it: add --allow-child-process",
  };
  const reason = (typeof code === "string" ? why[code] : undefined) ?? describeError(cause);
  return new ReloadError(
    code === "ERR_ACCESS_DENIED" ? "permission" : "start",
    `${where} cannot be started: ${reason}`,
    {
      cause,
    },
  );
}

import type { Adapter, Predecessor, StartAdapter } from "../../src/core/adapter.ts";
import type { Files } from "../../src/core/files.ts";
import type { BasicServiceAdapter } from "../../src/core/service_adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import { clock } from "../shared/clock.ts";
import { type Handshake, takeHandshake } from "../../src/protocol/handshake.ts";
import { countActivated } from "../shared/listen_fds.ts";
import { inheritedChannel, type NodeProcess } from "../shared/node_channel.ts";
import { platformSignals } from "../shared/signals.ts";
import type { Environment, Snapshot } from "../shared/environment.ts";
import { connectChannel, denoCarries, watchChannel } from "./channel.ts";
import { denoDatagrams } from "./datagrams.ts";
import { denoListen } from "./listen.ts";
import { denoFetch, denoServe } from "./native.ts";
import { denoFiles } from "./files.ts";
import type { DenoNamespace } from "./namespace.ts";
import { createPermissions, type Permissions } from "./permissions.ts";
import { denoSignals } from "./signals.ts";
import { followThread, isElected, leadThreads, sharedOffer, shareOffer } from "./threads.ts";
import { hasEnded, parseStartTime } from "../../src/linux/proc.ts";

/** The start of Deno's adapter, and what the rest is made of. */
export interface DenoStart {
  readonly adapter: Omit<StartAdapter, "loadRest">;
  readonly permissions: Permissions;
  readonly snapshot: Snapshot;
  readonly handshake: Partial<Handshake>;
  readonly files: Files;
  readonly service: BasicServiceAdapter;
}

/** What cannot be found out later, because the program may change it. */
function takeSnapshot(
  deno: DenoNamespace,
  { isGranted, seesProc }: Permissions,
  isMainThread: boolean,
): Snapshot {
  const read = (name: string) =>
    isMainThread && seesProc
      ? attempt(() => deno.readTextFileSync(`/proc/self/${name}`))
      : undefined;
  return {
    cwd: deno.cwd(),
    loaded: isGranted("env") ? deno.env.toObject() : {},
    cmdline: read("cmdline"),
    environ: read("environ"),
  };
}

function findPredecessor(
  deno: DenoNamespace,
  { checkPath }: Permissions,
  { generation, channelPath }: Partial<Handshake>,
): Predecessor | undefined {
  if (generation === undefined) return undefined;
  if (channelPath !== undefined) {
    checkPath(channelPath);
    return { generation, channel: connectChannel(deno, channelPath) };
  }
  const { process } = globalThis as unknown as { process: NodeProcess };
  const inherited = inheritedChannel(process, generation, denoCarries(deno.build.os === "windows"));
  return inherited && { ...inherited, channel: watchChannel(deno, inherited.channel) };
}

/**
 * The adapter for Deno. Signals and `listen()` need no permission. A reload needs `--allow-env`,
 * because the environment is handed on, and `--allow-run=<the deno executable>`; to start from a
 * flipped symbolic link it needs `--allow-read` of that link.
 *
 * Start-up uses only Deno's own functions: the first use of Node's `process` costs 20 ms.
 */
export function createDenoAdapter(deno: DenoNamespace, isMain: boolean): StartAdapter {
  const { os } = deno.build;
  const permissions = createPermissions(deno);
  const mayReadEnv = permissions.isGranted("env");
  const id = `${performance.now()}${Math.random()}`;
  let handshake: Partial<Handshake> = {};
  function take(): void {
    const isAlive = (pid: number) => isInProc(deno, permissions, pid);
    handshake = takeHandshake(deno.env, { parent: deno.ppid, isAlive });
    shareOffer(deno.env, deno.pid, handshake.native);
  }
  const isMainThread = isMain && (!mayReadEnv || isElected(deno.env, deno.pid, id, take));
  const isThread = isMain && !isMainThread;
  const isSuccessor = handshake.generation !== undefined;
  const snapshot = takeSnapshot(deno, permissions, isMainThread);
  const platform = platformSignals(os === "windows" ? "win32" : os);
  const { onExit, ...signals } = denoSignals(deno, permissions, platform.signals);
  const files = denoFiles(deno, permissions.checkPath);
  const service = basicService(deno, permissions, snapshot.loaded, files, onExit);
  const isShared = (handshake.supervisor?.instances ?? 1) > 1;
  const activated = os === "linux" ? countActivated(snapshot.loaded, deno.pid, isSuccessor) : 0;

  let found: Predecessor | undefined;
  const adapter: DenoStart["adapter"] = {
    ...clock,
    ...platform,
    ...signals,
    runtime: "Deno",
    pid: deno.pid,
    canReload: isMainThread,
    isSuccessor,
    predecessor() {
      handshake.takeRest?.();
      return found ??= findPredecessor(deno, permissions, handshake);
    },
    exit: (code) => deno.exit(code),
    fetch: denoFetch,
    service: isMainThread ? service : undefined,
    native: {
      serve: denoServe(deno, isShared, activated, permissions, isThread),
      listen: denoListen(deno, isShared),
      datagrams: denoDatagrams(deno),
    },
    nativeOffer: isThread ? sharedOffer(deno.env, deno.pid) : handshake.native,
    threads: isThread
      ? followThread(deno.env, deno.pid, id)
      : isMain && mayReadEnv
      ? leadThreads(deno.env, deno.pid)
      : undefined,
  };
  const start = { adapter, permissions, snapshot, handshake, files, service };
  return {
    ...adapter,
    loadRest: async (): Promise<Adapter> =>
      (await import("./complete.ts")).completeDenoAdapter(deno, start),
  };
}

/**
 * Whether a process with this pid runs: a zombie does not. `undefined` where /proc cannot be seen.
 */
function isInProc(
  deno: DenoNamespace,
  { seesProc }: Permissions,
  pid: number,
): boolean | undefined {
  if (!seesProc) return undefined;
  const stat = attempt(() => deno.readTextFileSync(`/proc/${pid}/stat`));
  return stat !== undefined && !hasEnded(stat);
}

/** What a service on Deno needs at once. */
export function basicService(
  deno: DenoNamespace,
  permissions: Permissions,
  loaded: Environment,
  files: Files,
  onExit: BasicServiceAdapter["onExit"],
): BasicServiceAdapter {
  return {
    variable: (name) => loaded[name],
    files: () => files,
    isAlive(pid) {
      const isThere = isInProc(deno, permissions, pid);
      if (isThere !== undefined) return isThere;
      try {
        return (globalThis as unknown as { process: NodeProcess }).process.kill(pid, 0);
      } catch (error) {
        // Another user's, or Deno does not allow the question.
        return (error as { code?: unknown }).code !== "ESRCH";
      }
    },
    startTime: (pid) =>
      permissions.seesProc
        ? attempt(() => parseStartTime(deno.readTextFileSync(`/proc/${pid}/stat`)))
        : undefined,
    onExit,
  };
}

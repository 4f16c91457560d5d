import type { Adapter, Predecessor, StartAdapter } from "../../src/core/adapter.ts";
import type { Files } from "../../src/core/files.ts";
import type { BasicServiceAdapter } from "../../src/core/service_adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import { clock } from "../shared/clock.ts";
import { type Handshake, takeHandshake } from "../../src/protocol/handshake.ts";
import { countActivated } from "../shared/listen_fds.ts";
import { inheritedChannel, type NodeProcess } from "../shared/node_channel.ts";
import { platformSignals } from "../shared/signals.ts";
import type { Snapshot } from "../shared/environment.ts";
import { basicService, isInProc } from "./basic_service.ts";
import { connectChannel, denoCarries, watchChannel } from "./channel.ts";
import { denoDatagrams } from "./datagrams.ts";
import { denoFetch, denoServe } from "./native.ts";
import { denoFiles } from "./files.ts";
import type { DenoNamespace } from "./namespace.ts";
import { createPermissions, type Permissions } from "./permissions.ts";
import { denoSignals } from "./signals.ts";
import { isElected } from "./threads.ts";

/** The start of Deno's adapter, and what the rest is made of. */
export interface DenoStart {
  readonly adapter: Omit<StartAdapter, "complete">;
  readonly permissions: Permissions;
  readonly snapshot: Snapshot;
  readonly handshake: Partial<Handshake>;
  readonly files: Files;
  readonly service: BasicServiceAdapter;
}

/**
 * The adapter for Deno. Signals and `listen()` need no permission. A reload needs `--allow-env`, because the environment is handed on, and
 * `--allow-run=<the deno executable>`; to start from a flipped symbolic link it needs `--allow-read` of that link.
 *
 * Start-up uses only Deno's own functions: the first use of Node's `process` costs 20 ms.
 */
export function createDenoAdapter(deno: DenoNamespace, isMain: boolean): StartAdapter {
  const permissions = createPermissions(deno);
  const mayReadEnv = permissions.isGranted("env");
  const isMainThread = isMain && (!mayReadEnv || isElected(deno.env, deno.pid, `${performance.now()}${Math.random()}`));
  const isWindows = deno.build.os === "windows";
  const handshake: Partial<Handshake> = isMainThread && mayReadEnv
    ? takeHandshake(deno.env, {
      parent: deno.ppid,
      isAlive: (pid) => isInProc(deno, permissions, pid),
    })
    : {};
  const readProc = (name: string) =>
    isMainThread && permissions.seesProc ? attempt(() => deno.readTextFileSync(`/proc/self/${name}`)) : undefined;
  const snapshot: Snapshot = {
    cwd: deno.cwd(),
    loaded: mayReadEnv ? deno.env.toObject() : {},
    cmdline: readProc("cmdline"),
    environ: readProc("environ"),
  };
  const platform = platformSignals(isWindows ? "win32" : deno.build.os);
  const { onExit, ...signals } = denoSignals(deno, permissions, platform.signals);
  const files = denoFiles(deno, permissions.checkPath);
  const service = basicService(deno, permissions, snapshot.loaded, files, onExit);

  let found: Predecessor | undefined;

  function findPredecessor(): Predecessor | undefined {
    const { generation, channelPath } = handshake;
    if (generation === undefined) return undefined;
    if (channelPath !== undefined) {
      permissions.checkPath(channelPath);
      return { generation, channel: connectChannel(deno, channelPath) };
    }
    const { process } = globalThis as unknown as { process: NodeProcess };
    const inherited = inheritedChannel(process, generation, denoCarries(isWindows));
    return inherited && { ...inherited, channel: watchChannel(deno, inherited.channel) };
  }

  const activated = deno.build.os === "linux"
    ? countActivated(snapshot.loaded, deno.pid, handshake.generation !== undefined)
    : 0;
  const adapter: DenoStart["adapter"] = {
    ...clock,
    ...platform,
    ...signals,
    runtime: "Deno",
    pid: deno.pid,
    canReload: isMainThread,
    isSuccessor: handshake.generation !== undefined,
    predecessor() {
      handshake.takeRest?.();
      return found ??= findPredecessor();
    },
    exit: (code) => deno.exit(code),
    fetch: denoFetch,
    service: isMainThread ? service : undefined,
    nativeServe: denoServe(deno, (handshake.supervisor?.instances ?? 1) > 1, activated, permissions.mayCall),
    nativeDatagrams: denoDatagrams(deno),
    nativeOffer: handshake.native,
  };
  const start = { adapter, permissions, snapshot, handshake, files, service };
  return {
    ...adapter,
    complete: async (): Promise<Adapter> => (await import("./complete.ts")).completeDenoAdapter(deno, start),
  };
}

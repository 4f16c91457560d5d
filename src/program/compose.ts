import type { Adapter } from "../core/adapter.ts";
import { createIdleConnections } from "../connections/idle.ts";
import { boundSource } from "../connections/idle_bound.ts";
import { nativeSource } from "../connections/idle_native.ts";
import { createLiveConnections } from "../connections/live.ts";
import { createNativeSockets } from "../connections/native_sockets.ts";
import type { ProgramContext, ProgramParts } from "../reload/context.ts";
import type { Handover } from "../reload/handover.ts";
import { createInstances } from "../service/instances.ts";
import { findRunParent } from "../service/run.ts";
import { createService } from "../service/service.ts";
import { createSockets, withoutSockets } from "../sockets/sockets.ts";
import type { Beginning, LoadedProgram } from "./begin.ts";
import { createProgram } from "./program.ts";
import { createStateHandover } from "./state.ts";

/** Puts together the parts of a program, as far as the runtime has them. */
export function compose(
  { sockets: socketAdapter, service: serviceAdapter }: Adapter,
  program: ProgramContext,
  pidFile: Handover | undefined,
): ProgramParts {
  const { clock, hasPredecessor, options, runtime } = program;
  const state = createStateHandover(options.saveState, hasPredecessor, clock);
  const supervision = serviceAdapter && findRunParent(serviceAdapter);
  const instances = serviceAdapter && createInstances(serviceAdapter, supervision, clock);
  const service = serviceAdapter && createService(serviceAdapter, program, supervision);
  const natives = socketAdapter && createNativeSockets(socketAdapter, program);
  const sockets = natives && createSockets(socketAdapter, program, {
    nativeServers: natives.servers,
    emptied: natives.emptied,
    shared: instances,
    every: serviceAdapter?.every,
    holders: serviceAdapter?.holders,
    awaitsState: state.isAwaited,
  });
  const { settling, datagrams, listening, unix, reuseport, unbound } = sockets?.handovers ?? {};
  const { releaseLink, statusFile, systemd, run } = service?.handovers ?? {};

  const connections = socketAdapter?.connections;
  const idle = createIdleConnections(connections, clock, [
    ...(connections !== undefined && sockets !== undefined
      ? [boundSource(connections, clock, sockets.movable)]
      : []),
    ...(natives !== undefined ? [nativeSource(program, natives)] : []),
  ]);

  // Each step is taken in this order, a rollback in the reverse one.
  const handovers: readonly (Handover | undefined)[] = [
    // Let go of before the state that describes them is taken.
    createLiveConnections(connections, program, natives),
    datagrams, // Stop reading before the state is taken: it knows of each datagram that was read.
    state.handover,
    settling, // Answers say `Connection: close` before anything else is committed.
    listening, // The sockets that most programs have: the first to be offered.
    idle, // Watched before their servers stop accepting.
    natives?.servers.handover,
    unix,
    reuseport, // Steers to a new process that has opened its own sockets.
    unbound, // Names the sockets that none of the above has handed over.
    releaseLink,
    pidFile, // What tells others of the new process comes after all that it serves with.
    statusFile,
    systemd,
    run,
    instances?.handover, // The instances agree when everything else has.
  ];
  return {
    env: service?.env ?? {},
    how: service?.how ?? "plain",
    supervisor: service?.supervisor,
    ...sockets ?? withoutSockets(runtime),
    handovers: handovers.filter((handover) => handover !== undefined),
    inheritedState: state.inheritedState,
  };
}

/**
 * The part of a program that a start does not wait for: `listen()` loads it right after the code
 * that called it.
 */
export function composeProgram(adapter: Adapter, beginning: Beginning): LoadedProgram {
  return createProgram(
    adapter,
    beginning,
    (program) => compose(adapter, program, beginning.pidFile),
  );
}

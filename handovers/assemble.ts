import type { Adapter } from "../core/adapter.ts";
import type { Beginning, LoadedProgram } from "../program/begin.ts";
import type { ProgramContext, ProgramParts } from "../program/parts.ts";
import { createProgram } from "../program/program.ts";
import type { Handover } from "../reload/handover.ts";
import { createInstances } from "./instances.ts";
import { findSupervision } from "./run_protocol.ts";
import { createLiveConnections } from "./live_connections.ts";
import { createNativeSockets } from "./native_sockets.ts";
import { createService } from "./service.ts";
import { createSockets, withoutSockets } from "./sockets.ts";
import { createStateHandover } from "./state.ts";

/**
 * Puts together the parts of a program, as far as the runtime has them. The handovers are in the order of their steps.
 *
 * @param pidFile The handover of the pid file, which `listen()` has written already.
 */
function assemble(
  { sockets: socketAdapter, service: serviceAdapter }: Adapter,
  program: ProgramContext,
  pidFile: Handover | undefined,
): ProgramParts {
  const { clock, hasPredecessor, options, runtime } = program;
  const state = createStateHandover(options.handOver, hasPredecessor, clock);
  const natives = socketAdapter && createNativeSockets(socketAdapter, program);
  const live = createLiveConnections(socketAdapter?.connections, program, natives);
  const supervision = serviceAdapter && findSupervision(serviceAdapter);
  const instances = serviceAdapter && createInstances(serviceAdapter, supervision, clock);
  const { beforeState, ...sockets } = socketAdapter === undefined || natives === undefined
    ? withoutSockets(runtime)
    : createSockets(socketAdapter, program, {
      natives,
      shared: instances,
      every: serviceAdapter?.every,
      holders: serviceAdapter?.holders,
      awaitsState: state.isAwaited,
    });
  const service = serviceAdapter && createService(serviceAdapter, program, supervision, instances, pidFile);
  return {
    env: {},
    how: "plain",
    supervisor: undefined,
    ...service,
    ...sockets,
    handovers: [live, ...beforeState, state.handover, ...sockets.handovers, ...service?.handovers ?? []],
    inherited: state.inherited,
  };
}

/** The part of a program that a start does not wait for: `listen()` loads it right after the code that called it. */
export function completeProgram(adapter: Adapter, beginning: Beginning, pidFile: Handover | undefined): LoadedProgram {
  return createProgram(adapter, beginning, (program) => assemble(adapter, program, pidFile));
}

/** The handovers of a program that is run as a service. */
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { ProgramContext, ProgramParts } from "../program/parts.ts";
import type { Handover } from "../reload/handover.ts";
import { answerOnPipe } from "../windows/pipe_server.ts";
import type { Instances } from "./instances.ts";
import { describeProcessOne } from "./process_one.ts";
import { watchReleaseLink } from "./release_link.ts";
import { createRunHandover, type Supervision } from "./run_protocol.ts";
import { createStatusFile } from "./status_file.ts";
import { createSystemd } from "./systemd.ts";

/** The pid file, the status file, systemd, `reload-self run`. */
export function createService(
  adapter: ServiceAdapter,
  program: ProgramContext,
  supervision: Supervision | undefined,
  instances: Instances | undefined,
  pidFile: Handover | undefined,
): Pick<ProgramParts, "handovers" | "env" | "how" | "supervisor"> {
  const { clock, options, pid, reload, warn } = program;
  const systemd = createSystemd(adapter, program, supervision !== undefined);
  const link = adapter.releaseLink?.();
  const handovers: (Handover | undefined)[] = [
    link && watchReleaseLink(link, program),
    pidFile,
    options.status === false ? undefined : createStatusFile(adapter, program),
    systemd?.handover,
    supervision && createRunHandover(adapter, supervision, program),
    instances?.handover,
  ];
  if (adapter.answer !== undefined) answerOnPipe(adapter.answer, pid, clock.now, reload, warn);
  const processOne = supervision === undefined ? describeProcessOne(adapter, pid, program.hasPredecessor) : undefined;
  if (processOne !== undefined) warn(processOne);
  return {
    handovers: handovers.filter((handover) => handover !== undefined),
    env: systemd?.env ?? {},
    supervisor: supervision?.supervisor,
    how: supervision !== undefined ? "guarded" : systemd !== undefined ? "disowned" : "plain",
  };
}

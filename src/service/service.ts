/** The handovers of a program that is run as a service. */
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { ProgramContext, ProgramParts } from "../reload/context.ts";
import type { Handover } from "../reload/handover.ts";
import { answerOnPipe } from "../windows/pipe_server.ts";
import { describeProcessOne } from "./process_one.ts";
import { watchReleaseLink } from "./release_link.ts";
import { createRunHandover, type RunParent } from "./run.ts";
import { createStatusFile } from "./status_file.ts";
import { createSystemd } from "./systemd.ts";

/** The handovers, to be put in order; see program/compose.ts. */
export type ServiceHandovers = Readonly<Record<"releaseLink" | "statusFile" | "systemd" | "run", Handover | undefined>>;

/** The link to the release, the status file, systemd, `reload-self run`. */
export function createService(
  adapter: ServiceAdapter,
  program: ProgramContext,
  supervision: RunParent | undefined,
): Pick<ProgramParts, "env" | "how" | "supervisor"> & { readonly handovers: ServiceHandovers } {
  const { clock, options, pid, reload, warn } = program;
  const systemd = createSystemd(adapter, program, supervision !== undefined);
  const link = adapter.releaseLink?.();
  if (adapter.answer !== undefined) answerOnPipe(adapter.answer, pid, clock.now, reload, warn);
  const processOne = supervision === undefined ? describeProcessOne(adapter, pid, program.hasPredecessor) : undefined;
  if (processOne !== undefined) warn(processOne);
  return {
    handovers: {
      releaseLink: link && watchReleaseLink(link, program),
      statusFile: options.status === false ? undefined : createStatusFile(adapter, program),
      systemd: systemd?.handover,
      run: supervision && createRunHandover(adapter, supervision, program),
    },
    env: systemd?.env ?? {},
    supervisor: supervision?.supervisor,
    how: supervision !== undefined ? "guarded" : systemd !== undefined ? "disowned" : "plain",
  };
}

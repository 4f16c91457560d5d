/** What a program does about those who run it, put together: the pid file, systemd, containers. */
import type { Participant } from "../core/participant.ts";
import type { Extension, ProgramContext } from "../core/program.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import { createPidFile } from "./pid_file.ts";
import { createSystemd } from "./systemd.ts";

/** Lets a program be run as a service. */
export function createService(adapter: ServiceAdapter, program: ProgramContext): Extension {
  const { clock, emit, hasPredecessor, options, pid, token } = program;
  const warn = (message: string) => emit({ type: "warning", message });
  const participants: Participant[] = [];
  if (options.pidFile !== undefined) {
    participants.push(createPidFile(adapter, options.pidFile, pid, hasPredecessor, warn));
  }
  const systemd = createSystemd({ adapter, clock, pid, token, hasPredecessor, warn });
  if (systemd !== undefined) participants.push(systemd.participant);
  if (pid === 1) {
    warn(
      "this is process 1, and a container ends with its process 1: after a reload the new process would end with it. " +
        "Start the program with `reload-self run -- ...`, which stays process 1",
    );
  }
  return { participants, env: systemd?.env ?? {}, disowns: systemd !== undefined };
}

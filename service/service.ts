/** What a program does about those who run it, put together: the pid file, systemd, containers. */
import type { Participant } from "../core/participant.ts";
import type { Extension, ProgramContext } from "../core/program.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import { createPidFile } from "./pid_file.ts";
import { createControl } from "./control.ts";
import type { Instances } from "./instances.ts";
import { createStatus } from "./status.ts";
import { createSupervised, type Supervision } from "./supervised.ts";
import { createSystemd } from "./systemd.ts";

/** Lets a program be run as a service. */
export function createService(
  adapter: ServiceAdapter,
  program: ProgramContext,
  supervision: Supervision | undefined,
  instances: Instances | undefined,
): Extension {
  const { clock, emit, hasPredecessor, options, pid, token } = program;
  const warn = (message: string) => emit({ type: "warning", message });
  const participants: Participant[] = [];
  if (options.pidFile !== undefined) {
    participants.push(createPidFile(adapter, options.pidFile, pid, hasPredecessor, warn));
  }
  if (options.status !== false) {
    const [signal] = options.reloadSignals ?? program.reloadSignals;
    const { generation, runtime } = program;
    const status = createStatus({ adapter, clock, token, pid, generation, runtime, signal, hasPredecessor });
    if (status !== undefined) participants.push(status);
  }
  const systemd = createSystemd({
    adapter,
    clock,
    pid,
    token,
    hasPredecessor,
    isSupervised: supervision !== undefined,
    warn,
  });
  if (systemd !== undefined) participants.push(systemd.participant);
  createControl(adapter, pid, clock.now, program.reload, warn);
  if (supervision !== undefined) {
    participants.push(createSupervised(adapter, clock, supervision, pid, hasPredecessor, warn));
    if (instances !== undefined) participants.push(instances.participant);
  }
  if (pid === 1) {
    warn(
      "this is process 1, and a container ends with its process 1: after a reload the new process would end with it. " +
        "Start the program with `reload-self run -- ...`, which stays process 1",
    );
  }
  return {
    participants,
    env: systemd?.env ?? {},
    supervisor: supervision?.supervisor,
    start: supervision !== undefined ? "guarded" : systemd !== undefined ? "disowned" : "plain",
  };
}

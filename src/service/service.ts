/** The handovers of a program that is run as a service. */
import type { ReleaseLink, ServiceAdapter } from "../core/service_adapter.ts";
import type { ProgramContext, ProgramParts } from "../reload/context.ts";
import type { Handover } from "../reload/handover.ts";
import { answerOnPipe } from "../windows/named_pipe.ts";
import { createRunHandover, type RunParent } from "./run.ts";
import { createStatusFile } from "./status_file.ts";
import { createSystemd } from "./systemd.ts";
import { attempt } from "../core/attempt.ts";

/** The handovers, to be put in order; see program/compose.ts. */
export type ServiceHandovers = Readonly<
  Record<"releaseLink" | "statusFile" | "systemd" | "run", Handover | undefined>
>;

/** The link to the release, the status file, systemd, `reload-self run`. */
export function createService(
  adapter: ServiceAdapter,
  program: ProgramContext,
  runParent: RunParent | undefined,
): Pick<ProgramParts, "env" | "how" | "supervisor"> & { readonly handovers: ServiceHandovers } {
  const { clock, options, pid, reload, warn } = program;
  const systemd = createSystemd(adapter, program, runParent !== undefined);
  const link = adapter.releaseLink();
  if (adapter.serveNamedPipe !== undefined) {
    answerOnPipe(adapter.serveNamedPipe, pid, clock.now, reload, warn);
  }
  const processOne = runParent === undefined
    ? describeProcessOne(adapter, pid, program.hasPredecessor)
    : undefined;
  if (processOne !== undefined) warn(processOne);
  return {
    handovers: {
      releaseLink: link && watchReleaseLink(link, program),
      statusFile: options.status === false ? undefined : createStatusFile(adapter, program),
      systemd: systemd?.handover,
      run: runParent && createRunHandover(adapter, runParent, program),
    },
    env: systemd?.env ?? {},
    supervisor: runParent?.supervisor,
    how: runParent !== undefined ? "guarded" : systemd !== undefined ? "disowned" : "plain",
  };
}

/**
 * Programs that end when the one program ends that they have started: init programs for containers,
 * and npm and its like.
 */
const ENDS_WITH_ITS_CHILD =
  /^(tini|tini-static|docker-init|podman-init|dumb-init|catatonit|npm|pnpm|yarn)( |$)/;
const SHELL = /^(sh|ash|dash|bash|ksh|zsh|busybox)$/;

const ADVICE = "Start the program with `reload-self run -- ...`, which stays";

/**
 * What a reload comes to where process 1 ends with this process, and the container with both;
 * `undefined` where it does not, or where that is not known.
 */
function describeProcessOne(
  adapter: ServiceAdapter,
  pid: number,
  hasPredecessor: boolean,
): string | undefined {
  if (pid === 1) {
    return `this is process 1, and a container ends with its process 1: after a reload the new process would end with it. ${ADVICE} process 1`;
  }
  // A successor is adopted by process 1 after the one that matters has ended.
  if (hasPredecessor || adapter.parent() !== 1) return undefined;
  // Deno lets only a program with all permissions read it.
  const read = (name: string) => attempt(() => adapter.files().read(`/proc/1/${name}`)) ?? "";
  const name = read("comm").trim();
  // A shell that a person types into has no command; it does not end with what it has started.
  const hasCommand = () =>
    read("cmdline").split("\0").slice(1).some((argument) => /^[^-]/.test(argument));
  if (!ENDS_WITH_ITS_CHILD.test(name) && !(SHELL.test(name) && hasCommand())) return undefined;
  return `process 1 is ${name}, which ends with this process, and a container ends with its process 1: after a reload the new process would ` +
    `end with it. ${ADVICE}, below ${name}`;
}

/**
 * Warns where a reload starts the old release again: a link to the working directory is turned, and
 * this process does not know it.
 */
function watchReleaseLink(
  { path, directory, isMeant, leadsHere }: ReleaseLink,
  { hasPredecessor, warn }: ProgramContext,
): Handover {
  const advice =
    `To follow the link, start the program with PWD=${path} in its environment (systemd: Environment=PWD=${path})`;
  // A successor would repeat what the first process has reported.
  if (!hasPredecessor && !isMeant) {
    warn(
      `the working directory ${directory} is also ${path}, a symbolic link, and PWD does not say that it was reached by it: ` +
        `when the link is turned, a reload starts in ${directory} again. ${advice}. PWD=${directory} says that this is intended`,
    );
  }
  return {
    name: "working directory",
    outgoing: () => ({
      prepare() {
        if (leadsHere()) return;
        warn(
          `${path} leads elsewhere now, and the new process starts in ${directory} all the same. ${advice}, and restart it`,
        );
      },
    }),
  };
}

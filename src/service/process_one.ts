/** A container ends with its process 1. A reload replaces the process that the container was started for. */
import type { ServiceAdapter } from "../core/service_adapter.ts";

/** Programs that end when the one program ends that they have started: init programs for containers, and npm and its like. */
const ENDS_WITH_ITS_CHILD = /^(tini|tini-static|docker-init|podman-init|dumb-init|catatonit|npm|pnpm|yarn)( |$)/;
const SHELL = /^(sh|ash|dash|bash|ksh|zsh|busybox)$/;

const ADVICE = "Start the program with `reload-self run -- ...`, which stays";

/** What a reload comes to where process 1 ends with this process; `undefined` where it does not, or where that is not known. */
export function describeProcessOne(adapter: ServiceAdapter, pid: number, hasPredecessor: boolean): string | undefined {
  if (pid === 1) {
    return `this is process 1, and a container ends with its process 1: after a reload the new process would end with it. ${ADVICE} process 1`;
  }
  // A successor is adopted by process 1 after the one that matters has ended.
  if (hasPredecessor || adapter.parent() !== 1) return undefined;
  const read = (name: string) => {
    try {
      return adapter.files().read(`/proc/1/${name}`) ?? "";
    } catch {
      return ""; // Deno lets only a program with all permissions read it.
    }
  };
  const name = read("comm").trim();
  // A shell that a person types into has no command; it does not end with what it has started.
  const hasCommand = () => read("cmdline").split("\0").slice(1).some((argument) => /^[^-]/.test(argument));
  if (!ENDS_WITH_ITS_CHILD.test(name) && !(SHELL.test(name) && hasCommand())) return undefined;
  return `process 1 is ${name}, which ends with this process, and a container ends with its process 1: after a reload the new process would ` +
    `end with it. ${ADVICE}, below ${name}`;
}

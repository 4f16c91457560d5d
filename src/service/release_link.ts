/** Warns where a reload starts the old release again: a link to the working directory is turned, and this process does not know it. */
import type { ReleaseLink } from "../core/service_adapter.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover } from "../reload/handover.ts";

/** The handover, which only looks and warns. */
export function watchReleaseLink(
  { path, directory, leadsHere }: ReleaseLink,
  { hasPredecessor, warn }: ProgramContext,
): Handover {
  const advice = `To follow the link, start the program with PWD=${path} in its environment (systemd: Environment=PWD=${path})`;
  // A successor would say again what its first process has said.
  if (!hasPredecessor) {
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
        warn(`${path} leads elsewhere now, and the new process starts in ${directory} all the same. ${advice}, and restart it`);
      },
    }),
  };
}

/** Who may connect to a unix socket: its owner, its group and its mode, which a new socket gets from the one that it replaces. */
import { describeError } from "../core/describe_error.ts";
import type { FileAccess, Files } from "../core/files.ts";

/** Whether two files may be used by the same users. */
function isSame(a: FileAccess, b: FileAccess): boolean {
  return a.uid === b.uid && a.gid === b.gid && a.mode === b.mode;
}

/** Runs `work`. Returns why it failed. */
function refusal(work: () => void): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return describeError(error);
  }
}

/**
 * Lets the users of `wanted`, and no others, use a socket. Its owner and its group come first, and only then the mode: the other way round its
 * first group could use it for a moment. A process of another user than root may change the group only, and only to one of its own; chown(2).
 *
 * @returns What was not permitted, for a warning.
 */
export function setAccess(files: Files, path: string, wanted: FileAccess): string | undefined {
  const own = files.access(path);
  if (isSame(own, wanted)) return undefined;
  const { uid, gid, mode } = wanted;
  let refused: string | undefined;
  if (own.uid !== uid || own.gid !== gid) {
    refused = refusal(() => files.chown(path, uid, gid));
    if (refused !== undefined && own.gid !== gid) refusal(() => files.chown(path, own.uid, gid));
  }
  return [refused, refusal(() => files.chmod(path, mode))].find((reason) => reason !== undefined);
}

/** The warning that a socket could not get the owner, the group and the mode of the one before. */
export function explainAccess(
  files: Files,
  path: string,
  wanted: FileAccess,
  reason: string,
): string {
  const show = ({ uid, gid, mode }: FileAccess) => `user ${uid}, group ${gid}, mode ${mode.toString(8)}`;
  return `the socket at ${path} had ${show(wanted)}, and now has ${
    show(files.access(path))
  }: this process may not set more (${reason}). ` +
    "It is served, but who could connect before perhaps cannot. Make the user of this process a member of that group, or let systemd make " +
    "the socket (SocketUser=, SocketGroup=, SocketMode=)";
}

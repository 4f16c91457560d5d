/**
 * How a unix socket gets to its path, and who may connect to it then: its owner, its group and its
 * mode are those of the socket that it replaces.
 */
import { describeError } from "../../core/describe_error.ts";
import type { FileAccess, Files } from "../../core/files.ts";

/** Runs `work`. Returns why it failed. */
function refusal(work: () => void): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return describeError(error);
  }
}

/** The name next to a path under which a process makes its socket. */
export function temporaryPathOf(path: string, pid: number): string {
  return `${path}.${pid}`;
}

/** Who may connect at a path; `undefined` where there is no socket. */
export function accessAt(files: Files, path: string): FileAccess | undefined {
  return files.kind(path) === "socket" ? files.access(path) : undefined;
}

/**
 * Lets the users of `wanted`, and no others, use a socket. Its owner and its group come first, and
 * only then the mode: the other way round its first group could use it for a moment. A process of
 * another user than root may change the group only, and only to one of its own; chown(2).
 *
 * @returns What was not permitted, for a warning.
 */
export function setAccess(files: Files, path: string, wanted: FileAccess): string | undefined {
  const own = files.access(path);
  const { uid, gid, mode } = wanted;
  const isOwned = own.uid === uid && own.gid === gid;
  if (isOwned && own.mode === mode) return undefined;
  const refused = isOwned ? undefined : refusal(() => files.chown(path, uid, gid));
  if (refused !== undefined && own.gid !== gid) refusal(() => files.chown(path, own.uid, gid));
  const modeRefused = refusal(() => files.chmod(path, mode));
  return refused ?? modeRefused;
}

/** The warning that a socket could not get the owner, the group and the mode of the one before. */
export function explainAccess(
  files: Files,
  path: string,
  wanted: FileAccess,
  reason: string,
): string {
  const show = ({ uid, gid, mode }: FileAccess) =>
    `user ${uid}, group ${gid}, mode ${mode.toString(8)}`;
  return `the socket at ${path} had ${show(wanted)}, and now has ${show(files.access(path))}: ` +
    `this process may not set more (${reason}). It is served, but who could connect before ` +
    "perhaps cannot. Make the user of this process a member of that group, or let systemd make " +
    "the socket (SocketUser=, SocketGroup=, SocketMode=)";
}

/** Gives a socket a second name, under which it is found when it has to be put back. */
function addName(files: Files, path: string, name: string): void {
  try {
    files.link(path, name);
  } catch {
    // Only its owner may do that where fs.protected_hardlinks is set; proc_sys_fs(5). The path
    // leads nowhere for some microseconds then, once: the new socket belongs to the user of this
    // process.
    files.rename(path, name);
  }
}

/**
 * Puts a socket at a path, for the users of the socket that was there.
 *
 * @param keptAs Another name for the socket that was there, which is lost without it.
 * @returns A warning, where not all who could connect still can.
 */
export function placeSocket(
  files: Files,
  temporaryPath: string,
  path: string,
  keptAs?: string,
): string | undefined {
  const access = accessAt(files, path);
  const refused = access && setAccess(files, temporaryPath, access);
  if (access !== undefined && keptAs !== undefined) addName(files, path, keptAs);
  files.rename(temporaryPath, path);
  return access && refused && explainAccess(files, path, access, refused);
}

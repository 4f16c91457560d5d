/**
 * The process that a command is about. Its own environment says where its status file is, so that
 * its user controls the content: nothing in it may make this command do more than that user could
 * do.
 */
import { readdirSync } from "node:fs";
import process from "node:process";
import {
  folderCandidates,
  parseEnviron,
  readSmallFile,
  type SmallFile,
} from "../adapters/tools/machine.ts";
import { attempt } from "../src/core/attempt.ts";
import { describeError } from "../src/core/describe_error.ts";
import { parsePid } from "../src/protocol/pid_file.ts";
import { parseStatus, type Status, statusFile } from "../src/protocol/status.ts";
import { Failure } from "./options.ts";
import {
  checkAlive,
  innerPid,
  isAlive,
  outerPid,
  readProc,
  startTime,
  userOf,
} from "./processes.ts";

/** A folder with the status files of a user. */
export interface StatusFolder {
  readonly path: string;
  readonly uid: number | undefined;
}

/** Reads a file that must belong to a user. */
function readOwned(path: string, uid: number | undefined): string {
  const file = attempt(() => readSmallFile(path));
  return file !== undefined && (process.platform === "win32" || file.uid === uid) ? file.text : "";
}

/** The pid from a command line: a pid, or the path of a pid file. */
export function pidOf(target: string): number {
  if (/^\d+$/.test(target)) {
    const pid = parsePid(target);
    if (pid === undefined) throw new Failure(2, `${target} is not a process id`);
    return pid;
  }
  let file: SmallFile;
  try {
    file = readSmallFile(target);
  } catch (error) {
    const why = (error as { code?: unknown }).code === "ELOOP"
      ? "it is a symbolic link"
      : describeError(error);
    throw new Failure(
      2,
      `${target} is not a process id, and not a pid file that can be read: ${why}`,
    );
  }
  const pid = parsePid(file.text);
  if (pid === undefined) {
    throw new Failure(
      2,
      `${target} has no process id in it, but ${JSON.stringify(file.text.slice(0, 40))}`,
    );
  }
  if (
    process.platform !== "win32" && isAlive(pid) &&
    ![0, process.getuid?.(), userOf(pid)].includes(file.uid)
  ) {
    throw new Failure(
      2,
      `${target} belongs to user ${file.uid}, and process ${pid} to another: use the pid itself`,
    );
  }
  return pid;
}

/** The process that has replaced another one, which is gone. */
export function findReplacement(folders: readonly StatusFolder[], pid: number): Status | undefined {
  for (const { path, uid } of folders) {
    for (const name of attempt(() => readdirSync(path)) ?? []) {
      const [, number] = /^(\d+)\.json$/.exec(name) ?? [];
      if (number === undefined || userOf(Number(number)) !== uid) continue;
      const status = parse(readOwned(`${path}/${name}`, uid), Number(number), Number(number));
      if (status !== undefined && "reloads" in status && status.from?.pid === pid) return status;
    }
  }
  return undefined;
}

/** The folders with the status of a process and of those that come after it. */
export function foldersOf(pid: number): StatusFolder[] {
  return candidates(pid).map(({ path, uid }) => ({
    path: path.replace(/^\/proc\/\d+\/root/, "").replace(/\/[^/]*$/, ""),
    uid,
  }));
}

/**
 * Where the status file of a process is, seen from here: the process may have another root
 * directory and other pids.
 */
function candidates(pid: number): { path: string; pid: number; uid: number | undefined }[] {
  const uid = userOf(pid);
  if (process.platform === "win32") {
    return [{ path: `${process.env.LOCALAPPDATA}/reload-self/${statusFile(pid)}`, pid, uid }];
  }
  if (uid === undefined) return [];
  const { XDG_RUNTIME_DIR: runtime, TMPDIR: temporary } = parseEnviron(readProc(pid, "environ"));
  const inner = innerPid(pid);
  // On other systems than Linux only this command's own environment is known.
  const [folder, other] = process.platform === "linux"
    ? [runtime, temporary]
    : [process.env.XDG_RUNTIME_DIR, process.env.TMPDIR];
  const root = process.platform === "linux" ? `/proc/${pid}/root` : "";
  return folderCandidates(folder, other, uid).map((path) => ({
    path: `${root}${path}/${statusFile(inner)}`,
    pid: inner,
    uid,
  }));
}

/**
 * The content of a status file of a program, or of its parent, `reload-self run`. `outer` is the
 * pid of the process in this namespace: a file that a killed process has left behind is not that of
 * another process which has its pid now.
 */
function parse(
  text: string,
  pid: number,
  outer: number,
): Status | { supervises: number } | undefined {
  const status = parseStatus(text);
  if (status?.pid !== pid) return undefined;
  const started = startTime(outer);
  return started === undefined || status.startTime === started ? status : undefined;
}

/** The status of a process, or `undefined` where it keeps none. */
export function findStatus(pid: number): Status | undefined {
  for (const { path, pid: inner, uid } of candidates(pid)) {
    const status = parse(readOwned(path, uid), inner, pid);
    if (status === undefined) continue;
    if ("reloads" in status) return { ...status, pid };
    const outer = outerPid(pid, status.supervises);
    if (userOf(outer) !== uid) continue;
    const text = readOwned(path.replace(/[^/]*$/, statusFile(status.supervises)), uid);
    const supervised = parse(text, status.supervises, outer);
    if (supervised !== undefined && "reloads" in supervised) return { ...supervised, pid: outer };
  }
  return undefined;
}

/** The status of a process; throws when it has none. */
export function statusOf(pid: number): Status {
  checkAlive(pid);
  const status = findStatus(pid);
  if (status !== undefined) return status;
  const [folder] = foldersOf(pid);
  if (folder === undefined) {
    throw new Failure(
      2,
      `process ${pid} is not one user's alone, as a setuid program is: its status is not believed`,
    );
  }
  throw new Failure(
    2,
    `process ${pid} keeps no status in ${folder.path}: it does not use @js0/reload-self, or has \`status: false\`, or is a Deno ` +
      "without all permissions",
  );
}

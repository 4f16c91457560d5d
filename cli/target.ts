/** The process that a command is about. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import process from "node:process";
import { parseEnviron } from "../adapters/environment.ts";
import { nodeService } from "../adapters/node_service.ts";
import { folderCandidates } from "../adapters/own_folder.ts";
import { describeError } from "../core/error.ts";
import { parsePid } from "../service/pid_file.ts";
import { type Status, statusFile } from "../service/status.ts";
import { Failure } from "./failure.ts";

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

const service = nodeService(process, process.env);

/** What Linux tells about a process. Under Wine there is a /proc too, of other processes. */
function readProc(pid: number, name: "environ" | "status"): string {
  return process.platform === "linux" ? read(`/proc/${pid}/${name}`) ?? "" : "";
}

/** The pid that is meant by a pid or by the path of a pid file. */
export function pidOf(target: string): number {
  if (/^\d+$/.test(target)) {
    const pid = parsePid(target);
    if (pid === undefined) throw new Failure(2, `${target} is no pid`);
    return pid;
  }
  let text: string;
  try {
    text = readFileSync(target, "utf8");
  } catch (error) {
    throw new Failure(2, `${target} is no pid, and no pid file that can be read: ${describeError(error)}`);
  }
  const pid = parsePid(text);
  if (pid === undefined) throw new Failure(2, `${target} has no pid in it, but ${JSON.stringify(text.slice(0, 40))}`);
  return pid;
}

/** The process that has replaced another one, which is gone, where they have the same folder as we. */
export function findReplacement(folders: readonly string[], pid: number): Status | undefined {
  for (const folder of folders) {
    for (const name of list(folder)) {
      const number = Number.parseInt(name);
      const status = parseStatus(read(`${folder}/${name}`) ?? "", number, number);
      if (status !== undefined && "reloads" in status && status.from?.pid === pid) return status;
    }
  }
  return undefined;
}

/** The folders with the status of a process and of those that come after it. */
export function foldersOf(pid: number): string[] {
  return candidates(pid).map(({ path }) => path.replace(/^\/proc\/\d+\/root/, "").replace(/\/[^/]*$/, ""));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Throws when there is no such process, or when it may not be signalled. */
export function checkAlive(pid: number): void {
  try {
    process.kill(pid, 0);
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === "ESRCH") throw new Failure(2, `there is no process ${pid}`);
    if (code === "EPERM") throw new Failure(2, `process ${pid} belongs to somebody else: run this as its user, or as root`);
    throw error;
  }
  // A zombie can be signalled too.
  if (/^State:\s*[ZX]/m.test(readProc(pid, "status"))) throw new Failure(2, `process ${pid} has ended`);
}

/** Is there such a process? */
export function isAlive(pid: number): boolean {
  try {
    checkAlive(pid);
    return true;
  } catch {
    return false;
  }
}

/** Where the status file of a process is, seen from here: the process may have another root, and other numbers. */
function candidates(pid: number): { path: string; pid: number }[] {
  if (process.platform === "win32") return [{ path: `${process.env.LOCALAPPDATA}/reload-self/${statusFile(pid)}`, pid }];
  const { XDG_RUNTIME_DIR: runtime, TMPDIR: temporary } = parseEnviron(readProc(pid, "environ"));
  const facts = readProc(pid, "status");
  const uid = Number(/^Uid:\s+(\d+)/m.exec(facts)?.[1] ?? process.getuid?.());
  const inner = Number(/^NSpid:.*\s(\d+)$/m.exec(facts)?.[1] ?? pid);
  const root = `/proc/${pid}/root`;
  return folderCandidates(runtime, temporary, uid).map((folder) => ({
    path: `${root}${folder}/${statusFile(inner)}`,
    pid: inner,
  }));
}

/**
 * What is in a status file: that of a program, or of its parent, `reload-self run`. `outer` is the pid that the process has here: a file
 * that was left behind by one that was killed is not that of the stranger which has its pid now.
 */
function parseStatus(text: string, pid: number, outer: number): Status | { supervises: number } | undefined {
  try {
    const status = JSON.parse(text) as Status & { supervises?: number };
    if (status.version !== 1 || status.pid !== pid) return undefined;
    const startTime = service.startTime(outer);
    if (startTime !== undefined && status.startTime !== startTime) return undefined;
    if (Number.isInteger(status.supervises)) return { supervises: Number(status.supervises) };
    return Number.isInteger(status.reloads) && typeof status.state === "string" ? status : undefined;
  } catch {
    return undefined;
  }
}

/** The number here of a process that has another one in the namespace of `pid`; pid_namespaces(7). */
function outsideOf(pid: number, inner: number): number {
  if (process.platform !== "linux") return inner;
  const namespace = (of: number | string) => {
    try {
      return readlinkSync(`/proc/${of}/ns/pid`);
    } catch {
      return undefined;
    }
  };
  const wanted = namespace(pid);
  if (wanted === undefined || wanted === namespace("self")) return inner;
  const found = readdirSync("/proc").find((name) =>
    /^\d+$/.test(name) && namespace(name) === wanted &&
    new RegExp(`^NSpid:.*\\s${inner}$`, "m").test(readProc(Number(name), "status"))
  );
  return Number(found ?? inner);
}

/** The status of a process, or `undefined` where it keeps none. */
export function findStatus(pid: number): Status | undefined {
  for (const { path, pid: inner } of candidates(pid)) {
    const status = parseStatus(read(path) ?? "", inner, pid);
    if (status === undefined) continue;
    if ("reloads" in status) return { ...status, pid };
    const outer = outsideOf(pid, status.supervises);
    const text = read(path.replace(/[^/]*$/, statusFile(status.supervises))) ?? "";
    const supervised = parseStatus(text, status.supervises, outer);
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
  throw new Failure(
    2,
    `process ${pid} keeps no status in ${folder}: it does not use @js0/reload-self, or has \`status: false\`, or is a Deno without ` +
      "all permissions",
  );
}

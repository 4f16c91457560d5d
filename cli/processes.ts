/** Processes on Linux, also in other namespaces. Wine has a /proc too, of other processes. */
import { readdirSync, readlinkSync } from "node:fs";
import process from "node:process";
import { readProcOf, service } from "../adapters/tools/machine.ts";
import { attempt } from "../src/core/attempt.ts";
import { Failure } from "./options.ts";

/** A file of a process in /proc, empty where it cannot be read. */
export function readProc(pid: number, name: "environ" | "status"): string {
  return (process.platform === "linux" ? readProcOf(process, pid, name) : undefined) ?? "";
}

/** When a process started; see `ServiceAdapter.startTime`. */
export function startTime(pid: number): string | undefined {
  return service.startTime(pid);
}

/**
 * The user of a process; `undefined` for a setuid program, which was started by one user and acts
 * for another. proc_pid_status(5): real, effective, saved set and filesystem UID.
 */
export function userOf(pid: number): number | undefined {
  if (process.platform !== "linux") return process.getuid?.();
  const uids = /^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$/m.exec(readProc(pid, "status"))?.slice(1) ??
    [];
  return uids.length > 0 && uids.every((uid) => uid === uids[0]) ? Number(uids[0]) : undefined;
}

/** The pid of a process in its innermost namespace; pid_namespaces(7). */
export function innerPid(pid: number): number {
  return Number(/^NSpid:.*\s(\d+)$/m.exec(readProc(pid, "status"))?.[1] ?? pid);
}

/** The pid in this namespace of a process that has the pid `inner` in the namespace of `pid`. */
export function outerPid(pid: number, inner: number): number {
  if (process.platform !== "linux") return inner;
  const namespace = (of: number | string) => attempt(() => readlinkSync(`/proc/${of}/ns/pid`));
  const wanted = namespace(pid);
  if (wanted === undefined || wanted === namespace("self")) return inner;
  const found = readdirSync("/proc").find((name) =>
    /^\d+$/.test(name) && namespace(name) === wanted && innerPid(Number(name)) === inner
  );
  return Number(found ?? inner);
}

/** Throws when there is no such process, or when it may not be signalled. */
export function checkAlive(pid: number): void {
  try {
    process.kill(pid, 0);
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === "ESRCH") throw new Failure(2, `there is no process ${pid}`);
    if (code === "EPERM") {
      throw new Failure(
        2,
        `process ${pid} belongs to another user: run this as its user, or as root`,
      );
    }
    throw error;
  }
  // A zombie can be signalled too.
  if (/^State:\s*[ZX]/m.test(readProc(pid, "status"))) {
    throw new Failure(2, `process ${pid} has ended`);
  }
}

/** Whether there is such a process, and it may be signalled. */
export function isAlive(pid: number): boolean {
  return attempt(() => (checkAlive(pid), true)) === true;
}

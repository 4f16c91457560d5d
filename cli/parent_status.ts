import { rmSync } from "node:fs";
import process from "node:process";
import { service } from "../adapters/tools/machine.ts";
import { REAPER_VARIABLE } from "./reaper.ts";
import { statusFile } from "../src/protocol/status.ts";

/** Lets `reload-self reload` and `reload-self status` find the process in charge by the pid of its parent. */
export function publishParent(): { update(pid: number): void; remove(): void } {
  const folder = service.runtimeFolder();
  // With a reaper, process 1 is a shell that waits for this process.
  const pids = process.env[REAPER_VARIABLE] !== undefined ? [process.pid, 1] : [process.pid];
  const paths = folder === undefined ? [] : pids.map((pid) => ({ pid, path: `${folder}/${statusFile(pid)}` }));
  let last: number | undefined;
  return {
    update(supervises) {
      if (supervises === last) return;
      last = supervises;
      for (const { pid, path } of paths) {
        service.files().replace(path, JSON.stringify({ version: 1, pid, startTime: service.startTime(pid), supervises }));
      }
    },
    remove() {
      for (const { path } of paths) rmSync(path, { force: true });
    },
  };
}

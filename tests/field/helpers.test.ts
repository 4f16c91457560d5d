/** Processes that a program starts and that outlive it inherit none of its sockets. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openConnection } from "../load/http1.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram, temporaryFolder } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const O_CLOEXEC = 0o2000000;

/**
 * The sockets among the descriptors of a process, besides its output, which node:child_process
 * makes of sockets.
 */
function socketsOf(pid: number): { fd: string; socket: string; isInherited: boolean }[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      const socket = readlinkSync(`/proc/${pid}/fd/${fd}`);
      const [, flags = "0"] =
        /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8")) ?? [];
      return Number(fd) > 2 && socket.startsWith("socket:")
        ? [{ fd, socket, isInherited: (parseInt(flags, 8) & O_CLOEXEC) === 0 }]
        : [];
    } catch {
      return []; // Closed meanwhile.
    }
  });
}

for (const runtime of runtimes) {
  for (const where of ["a port", "a unix socket"]) {
    test(`${runtime.name}: on ${where} no helper holds a socket, and the program can be started again`, async (t) => {
      const path = where === "a port" ? undefined : join(temporaryFolder(t), "app.sock");
      const start = () =>
        startProgram(t, runtime, { script: fixture("helper.ts"), env: { SOCKET: path } });
      const program = start();
      let current = await program.report("serving");
      const target = path !== undefined ? { path } : { port: current.address.port as number };
      for (let i = 0; i <= 2; i++) {
        // Kept open: an accepted connection is there as well.
        const connection = await openConnection(target);
        connection.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        await connection.answer();
        await program.report("helper", { when: "request", generation: i });
        const inherited = socketsOf(current.pid).filter(({ isInherited }) => isInherited);
        assert.deepEqual(inherited.map(({ fd }) => fd), [], `generation ${i}`);
        connection.close();
        if (i === 2) break;
        program.signal(current);
        const next = await program.report("in-charge", { generation: i + 1 });
        await until("the old process to be gone", () => !isAlive(current.pid));
        current = next;
      }
      const helpers = program.reports.filter(({ type }) => type === "helper").map(({ helper }) =>
        helper as number
      );
      assert.ok(helpers.length >= 9 && helpers.every(isAlive));
      assert.deepEqual(helpers.flatMap(socketsOf), []);
      program.signal(current, "SIGTERM");
      await until("the program to end", () => !isAlive(current.pid));
      await start().report("serving");
    });
  }
}

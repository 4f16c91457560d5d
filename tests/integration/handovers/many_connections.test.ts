/**
 * Connections that are more than half of the descriptors that a process may have. All of them move:
 * for each, one descriptor suffices. All options have their defaults.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, type Socket } from "node:net";
import { once } from "node:events";
import { cleanUp } from "../../support/clean_up.ts";
import { fixture, startProgram } from "../../support/program.ts";
import { runtimes } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

const LIMIT = 900;
const COUNT = 600;

/** What a connection begins with, and what is asked afterwards. */
const kinds = {
  "idle HTTP connections": {
    script: "adopted.ts",
    first: "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
    question: "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
  },
  WebSockets: {
    script: "echo_web_sockets.ts",
    first: "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    question: "\x81\x88\0\0\0\0question",
  },
};

for (const runtime of runtimes.filter(({ servers }) => servers.includes("adopted"))) {
  for (const [name, { script, first, question }] of Object.entries(kinds)) {
    test(`${runtime.name}: ${COUNT} ${name} move with a limit of ${LIMIT} descriptors`, async (t) => {
      const program = startProgram(t, runtime, {
        command: [
          "/bin/sh",
          "-c",
          `ulimit -n ${LIMIT}; exec "$@"`,
          "sh",
          runtime.executable,
          ...runtime.flags,
          fixture(script),
        ],
      });
      const { pid, port, ports = [port] } = await program.report("serving");
      let closed = 0;
      async function open(): Promise<Socket> {
        const socket = connect(ports[0], "127.0.0.1");
        cleanUp(t, () => socket.destroy());
        socket.on("error", () => {}).on("end", () => closed++);
        socket.write(first);
        await once(socket, "data");
        return socket;
      }
      const sockets = await Promise.all(Array.from({ length: COUNT }, open));
      program.signal(pid);
      const { moved, left } = await program.report("connections-move");
      assert.deepEqual({ moved, left, closed }, { moved: COUNT, left: 0, closed: 0 });
      await until("the old process to end", () => !program.pids().includes(pid));
      await Promise.all(sockets.map(async (socket) => {
        socket.write(question, "latin1");
        await once(socket, "data");
      }));
      assert.equal(closed, 0);
    });
  }
}

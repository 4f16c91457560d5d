/** examples/frameworks: each is reloaded while clients ask, and no request fails. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { openConnection } from "../load/http1.ts";
import { cleanUp } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { pidOnLine, startProgram } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const folder = join(
  dirname(dirname(dirname(fileURLToPath(import.meta.url)))),
  "examples/frameworks",
);

for (const runtime of oneOfEachKind) {
  for (const name of ["express", "fastify", "koa", "hono", "h3", "elysia"]) {
    test(`${runtime.name}: ${name}: two reloads under load`, async (t) => {
      const port = await freePort();
      const program = startProgram(t, runtime, {
        script: join(folder, `${name}.mjs`),
        env: { PORT: String(port), DENO_NO_PACKAGE_JSON: undefined },
      });
      const answers: string[] = [];
      const errors: unknown[] = [];
      await until(
        "the server",
        () =>
          openConnection({ port }).then((connection) => (connection.close(), true), () => false),
      );
      let isOver = false;
      const clients = Array.from({ length: 4 }, async () => {
        while (!isOver) {
          try {
            const connection = await openConnection({ port });
            connection.write("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            answers.push((await connection.answer()).body);
            connection.close();
          } catch (error) {
            errors.push(error);
          }
        }
      });
      cleanUp(t, () => void (isOver = true));
      const pidOf = async (generation: number) =>
        await until(
          `generation ${generation}`,
          () =>
            answers.map((text) =>
              new RegExp(`^pid (\\d+), generation ${generation}\\n$`).exec(text)?.[1]
            ).find(Boolean),
        );
      for (let generation = 0; generation < 2; generation++) {
        const pid = Number(await pidOf(generation));
        program.signal(pid);
        await until("the old process to be gone", () => !isAlive(pid));
      }
      await pidOf(2);
      isOver = true;
      await Promise.all(clients);
      assert.deepEqual(errors, []);
      for (const text of answers) assert.match(text, /^pid \d+, generation [012]\n$/);
    });
  }

  test(`${runtime.name}: Socket.IO: a client comes back by itself, to the new process`, async (t) => {
    const port = await freePort();
    const program = startProgram(t, runtime, {
      script: join(folder, "socket_io.mjs"),
      env: { PORT: String(port), DENO_NO_PACKAGE_JSON: undefined },
    });
    const client = io(`http://127.0.0.1:${port}`, {
      transports: ["websocket"],
      reconnectionDelay: 10,
      reconnectionDelayMax: 50,
    });
    cleanUp(t, () => client.close());
    const hellos: string[] = [];
    client.on("hello", (text: string) => hellos.push(text));
    await until("the first hello", () => hellos.length === 1);
    const pid = Number(/\d+/.exec(hellos[0] as string)?.[0]);
    program.signal(pid);
    await until("the second hello", () => hellos.length === 2);
    assert.match(hellos[1] as string, /generation 1$/);
    assert.equal(await client.timeout(5_000).emitWithAck("ask"), 1);
    await until("the old process to be gone", () => !isAlive(pid));
  });

  test(`${runtime.name}: ws: a chat goes on${runtime.kind === "bun" ? " when its clients have come back" : ""}`, async (t) => {
    const port = await freePort();
    const program = startProgram(t, runtime, {
      script: join(folder, "ws.mjs"),
      env: { PORT: String(port), DENO_NO_PACKAGE_JSON: undefined },
    });
    const pid = await pidOnLine(program, /^pid \d+, generation 0$/);
    const heard: string[] = [];
    let closed = 0;
    async function enter(name: string): Promise<WebSocket> {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/${name}`);
      cleanUp(t, () => socket.close());
      socket.onmessage = ({ data }) => heard.push(`${name} hears ${data}`);
      socket.onclose = ({ code }) => closed += code === 1001 ? 1 : 100;
      await new Promise((resolve) => socket.onopen = resolve);
      return socket;
    }
    let [ann] = [await enter("Ann"), await enter("Bob")];
    ann.send("one");
    await until("the first message", () => heard.length === 2);
    program.signal(pid);
    await until("the old process to be gone", () => !isAlive(pid));
    if (runtime.kind === "bun") {
      await until("both to be closed", () => closed === 2);
      [ann] = [await enter("Ann"), await enter("Bob")];
    } else assert.equal(closed, 0);
    ann.send("two");
    await until("the second message", () => heard.length === 4);
    assert.deepEqual(
      heard.toSorted(),
      ["one", "two"].flatMap((word) => [`Ann hears Ann: ${word}`, `Bob hears Ann: ${word}`])
        .toSorted(),
    );
  });
}

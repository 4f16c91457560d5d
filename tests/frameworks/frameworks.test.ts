/** Unmodified programs from npm below the preload: three reloads under load, no error, and all that a user expects of the processes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { cleanUp } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { startProgram } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";
import { prepare, type Project } from "./project.ts";
import { type App, listens, RELOADS, reloadsUnderLoad } from "./reloads.ts";

const project: Project = await prepare();

const nodes = runtimes.filter(({ kind }) => kind === "node");

function nodeApps(runtime: Runtime): App[] {
  const node = (name: string, script: string, ...args: string[]): App => ({
    name,
    runtime,
    command: [
      runtime.executable,
      ...runtime.flags,
      "--import",
      "@js0/reload-self/auto",
      script,
      ...args,
    ],
  });
  return [
    node("node:http", "apps/node_http.mjs"),
    node("Express", "apps/express.mjs"),
    node("Fastify", "apps/fastify.mjs"),
    node("Koa", "apps/koa.mjs"),
    node("Hono", "apps/hono.mjs"),
    node("Nest on Express", "apps/nest_express.mjs"),
    node("Nest on Fastify", "apps/nest_fastify.mjs"),
    node("Elysia", "apps/elysia_node.mjs"),
    node("Socket.IO's server", "apps/socket_io.mjs"),
    { ...node("Apollo Server", "apps/apollo.mjs"), path: "/?query=%7Bpid%7D" },
    node("next start", "node_modules/next/dist/bin/next", "start", "next_app"),
    node("Nitro's node-server", "nitro_app/.output/server/index.mjs"),
    node(
      "react-router-serve",
      "node_modules/@react-router/serve/bin.js",
      "router_app/build/server/index.js",
    ),
  ];
}

function bunApps(runtime: Runtime): App[] {
  const bun = (name: string, script: string): App => ({
    name,
    runtime,
    command: [runtime.executable, "--preload", "@js0/reload-self/auto", script],
  });
  return [
    bun("Bun.serve", "apps/bun_serve.mjs"),
    { ...bun("Bun.serve, a route", "apps/bun_serve.mjs"), path: "/route" },
    { ...bun("Bun.serve, a static route", "apps/bun_serve.mjs"), path: "/static" },
    bun("Hono, as the default export", "apps/hono_export.mjs"),
    bun("Elysia", "apps/elysia.mjs"),
    bun("node:http", "apps/node_http.mjs"),
    bun("Express", "apps/express.mjs"),
    bun("Fastify", "apps/fastify.mjs"),
    bun("Nest on Express", "apps/nest_express.mjs"),
  ];
}

function denoApps(runtime: Runtime): App[] {
  const deno = (name: string, script: string): App => ({
    name,
    runtime,
    command: [
      runtime.executable,
      "run",
      "-A",
      "--quiet",
      "--preload",
      "./node_modules/@js0/reload-self/auto.js",
      script,
    ],
    env: { DENO_NO_PACKAGE_JSON: undefined },
  });
  return [
    deno("Deno.serve", "apps/deno_serve.mjs"),
    deno("Hono on Deno.serve", "apps/hono_deno.mjs"),
    deno("node:http", "apps/node_http.mjs"),
    deno("Express", "apps/express.mjs"),
  ];
}

const apps: Record<Runtime["kind"], (runtime: Runtime) => App[]> = {
  node: nodeApps,
  bun: bunApps,
  deno: denoApps,
};

for (const app of runtimes.flatMap((runtime) => apps[runtime.kind](runtime))) {
  test(`${app.runtime.name}: ${app.name}: ${RELOADS} reloads under load`, (t) =>
    reloadsUnderLoad(t, project.folder, app));
}

for (const runtime of nodes) {
  const auto = (
    script: string,
  ) => [runtime.executable, ...runtime.flags, "--import", "@js0/reload-self/auto", script];

  test(`${runtime.name}: gRPC: ${RELOADS} reloads under load`, async (t) => {
    const port = await freePort();
    const program = startProgram(t, runtime, {
      command: auto("apps/grpc.mjs"),
      cwd: project.folder,
      env: { PORT: String(port), RELOAD_SELF_PROBATION: "300ms" },
    });
    await listens(program, port);
    const client = startProgram(t, runtime, {
      command: [runtime.executable, "apps/grpc_client.mjs"],
      cwd: project.folder,
      env: { PORT: String(port) },
    });
    const answering = async (known: number[]) =>
      (await client.report("answer", ({ pid }) => !known.includes(pid)).catch((error) =>
        assert.fail(error.message)
      )).pid;
    const pids = [await answering([])];
    for (let i = 0; i < RELOADS; i++) {
      const current = pids.at(-1) as number;
      program.signal(current);
      pids.push(await answering(pids));
      await until("the old process to be gone", () => !isAlive(current));
    }
    client.signal(client.process.pid as number, "SIGTERM");
    const { answers, errors } = await client.report("end");
    assert.deepEqual(errors, {}, program.lines.join("\n"));
    t.diagnostic(`${answers} answers of ${pids.length} processes`);
    program.signal(pids.at(-1) as number, "SIGTERM");
    await until("all processes to be gone", () => program.pids().length === 0);
  });

  test(`${runtime.name}: Socket.IO: its clients come to the new process by themselves`, async (t) => {
    const port = await freePort();
    const program = startProgram(t, runtime, {
      command: auto("apps/socket_io.mjs"),
      cwd: project.folder,
      env: { PORT: String(port), RELOAD_SELF_PROBATION: "300ms", RELOAD_SELF_DRAIN_TIMEOUT: "60s" },
    });
    await listens(program, port);
    const client = io(`http://127.0.0.1:${port}`, {
      transports: ["websocket"],
      reconnectionDelay: 10,
      reconnectionDelayMax: 50,
    });
    cleanUp(t, () => client.close());
    const hellos: number[] = [];
    client.on("hello", (pid: number) => hellos.push(pid));
    for (let i = 0; i < RELOADS; i++) {
      await until("a hello", () => hellos.length === i + 1);
      program.signal(hellos[i] as number);
      await until("the old process to be gone", () => !isAlive(hellos[i] as number));
    }
    await until("a hello", () => hellos.length === RELOADS + 1);
    assert.equal(new Set(hellos).size, RELOADS + 1);
    program.signal(hellos.at(-1) as number, "SIGTERM");
    await until("all processes to be gone", () => program.pids().length === 0);
  });
}

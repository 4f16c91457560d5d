/**
 * The program under test on Windows: program.mjs FOLDER PORT more arguments. It writes what happens
 * into FOLDER/log.PID as lines of JSON. When there is a file FOLDER/broken, it fails.
 */
import fs from "node:fs";
import http from "node:http";
import process from "node:process";
import { listen } from "../../mod.ts";

const [folder, port, ...more] = process.argv.slice(2);
let generation = -1;

function report(type, fields = {}) {
  const error = fields.error instanceof Error
    ? { error: { message: fields.error.message, code: fields.error.code } }
    : {};
  fs.appendFileSync(
    `${folder}/log.${process.pid}`,
    `${JSON.stringify({ type, pid: process.pid, generation, ...fields, ...error })}\n`,
  );
}

if (fs.existsSync(`${folder}/broken`)) throw new Error("broken");
const token = listen({
  probation: 300,
  idleGrace: 300,
  onEvent: ({ type, ...fields }) => report(type, fields),
});
generation = token.generation;
report("start", { args: more, executable: process.execPath, cwd: process.cwd() });
const server = http.createServer(async ({ url }, response) => {
  const answer = url === "/reload" ? await token.reload().catch(({ code }) => code) : generation;
  response.end(`${answer}\n`);
});
await token.bind(server, { port: Number(port), host: "127.0.0.1" });
report("serving");
if (token.generation > 0) {
  token.inheritedState.then(async () => report("console", { processes: await consoleProcesses() }));
}
report("cancelled", { reason: await token.cancelled() });
report("drained", { drained: await token.drained() });

/** How many processes are on the console of this one: 0 where there is none. Node cannot tell. */
async function consoleProcesses() {
  const pids = new Uint32Array(16);
  if (globalThis.Deno) {
    const call = { parameters: ["buffer", "u32"], result: "u32" };
    return Deno.dlopen("kernel32.dll", { GetConsoleProcessList: call }).symbols
      .GetConsoleProcessList(pids, 16);
  }
  if (!globalThis.Bun) return undefined;
  const { dlopen } = await import("bun:ffi");
  return dlopen("kernel32.dll", { GetConsoleProcessList: { args: ["ptr", "u32"], returns: "u32" } })
    .symbols
    .GetConsoleProcessList(
      pids,
      16,
    );
}

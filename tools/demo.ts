/**
 * Shows the point in 20 seconds: three servers under load are reloaded, get a version that fails,
 * and lose nothing.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { styleText } from "node:util";
import { build } from "esbuild";
import { pinned } from "../tests/pinned.mjs";
import { until } from "../tests/support/wait.ts";
import { CLIENTS, startClients } from "./demo/clients.ts";

const PAUSE_MS = 700;

const root = fileURLToPath(new URL("..", import.meta.url));
const cache = join(root, "node_modules/.cache");
mkdirSync(cache, { recursive: true });
const folder = mkdtempSync(join(cache, "demo-")); // There, because the server needs `ws`.
const app = join(folder, "app.mjs");

type Color = "bold" | "dim" | "green" | "red" | "cyan";
/** In colour on a terminal, unless NO_COLOR is set. */
const paint = (color: Color, text: string) => styleText(color, text, { stream: process.stdout });

/** What the clients have seen so far, in the last line of a terminal. */
const progress = process.stdout.isTTY ? setInterval(showProgress, 100) : undefined;
const CLEAR_LINE = "\r\x1b[K";

function showProgress(): void {
  const sum = totals();
  if (sum.requests === 0) return;
  process.stdout.write(
    `${CLEAR_LINE}${paint("dim", `  ${number(sum.requests)} requests, ${sum.failed} failed`)}`,
  );
}

function print(line = ""): void {
  console.log(progress === undefined ? line : CLEAR_LINE + line);
}

const number = (value: number) => value.toLocaleString("en");

interface Report {
  type: string;
  by: number;
  pid?: number;
  port?: number;
  milliseconds?: number;
  error?: { exitCode?: number; pid?: number };
}

interface Server {
  name: string;
  /** The process in charge. */
  pid: number;
  reports: Report[];
  clients: ReturnType<typeof startClients>;
}

/** Replaces the program, in one step, as a deploy does. */
function deploy(code: string): void {
  writeFileSync(`${app}.new`, code);
  renameSync(`${app}.new`, app);
}

/** The next report of a type, from the ones that follow. */
function reportOf(name: string, reports: Report[], types: string[], from: number): Promise<Report> {
  return until(
    `${name}: ${types.join(" or ")}`,
    () => reports.slice(from).find(({ type }) => types.includes(type)),
  );
}

/**
 * The processes in charge. One that ends takes a new process with it that is about to replace it.
 */
const running = new Set<number>();

function endAll(): void {
  for (const pid of running) process.kill(pid, "SIGTERM");
  running.clear();
  rmSync(folder, { recursive: true, force: true });
}

async function start(
  name: string,
  title: string,
  executable: string,
  flags: string[],
): Promise<Server> {
  const version = /\d+\.\d+\.\d+/.exec(
    execFileSync(executable, ["--version"], { encoding: "utf8" }),
  )?.[0];
  const child = spawn(executable, [...flags, join(folder, "server.js"), pathToFileURL(app).href], {
    env: { ...process.env, NO_COLOR: "1", DENO_NO_PACKAGE_JSON: "1", DENO_NO_UPDATE_CHECK: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const reports: Report[] = [];
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on(
    "line",
    (line) => reports.push(JSON.parse(line)),
  );
  const pid = child.pid as number;
  running.add(pid);
  child.once("exit", () => running.delete(pid));
  let errors = ""; // Shown when it does not start. The broken version writes some, too.
  child.stderr.on("data", (data) => errors += data);
  const { port = 0 } = await until(`${name} to listen`, () => {
    if (child.exitCode !== null) throw new Error(`${name} did not start:\n${errors}`);
    return reports.find(({ type }) => type === "listening");
  });
  print(
    `  ${name.padEnd(12)} ${`${title} ${version}`.padEnd(14)} pid ${
      String(pid).padEnd(8)
    } http://127.0.0.1:${port}`,
  );
  return { name, pid, reports, clients: startClients(port) };
}

/** Sends SIGHUP, and tells what came of it: whether the clients get that version. */
async function reload(server: Server, version: string): Promise<void> {
  const from = server.reports.length;
  process.kill(server.pid, "SIGHUP");
  const end = await reportOf(server.name, server.reports, ["reload-end", "reload-fail"], from);
  const old = server.pid;
  const label = `  ${server.name.padEnd(12)} `;
  if (end.type === "reload-end") {
    server.pid = end.pid as number;
    running.delete(old);
    running.add(server.pid);
    await until(
      `${server.name}: version ${version}`,
      () => server.clients.counts.versions.has(version),
    );
    const time = Math.round(end.milliseconds ?? 0);
    print(
      `${label}${
        paint("green", "reloaded")
      }     pid ${old} → ${server.pid} in ${time} ms, version ${version} answers`,
    );
  } else {
    const { pid, exitCode } = end.error ?? {};
    print(
      `${label}${
        paint("cyan", "rolled back")
      }  pid ${pid} exited with code ${exitCode}; pid ${old} goes on`,
    );
  }
}

async function step(
  title: string,
  version: string,
  code = `export const version = "${version}";\n`,
): Promise<void> {
  print(`\n${paint("bold", title)}`);
  deploy(code);
  for (const server of servers) await reload(server, version);
  await delay(PAUSE_MS);
}

function totals(): { requests: number; failed: number; reconnected: number } {
  const sum = { requests: 0, failed: 0, reconnected: 0 };
  for (const { clients: { counts } } of servers) {
    sum.requests += counts.requests;
    sum.failed += counts.failed;
    sum.reconnected += counts.reconnected;
  }
  return sum;
}

function summarize(): void {
  const widths = [11, 9, 14, 11, 11];
  const row = (name: string, cells: string[]) =>
    `  ${name.padEnd(12)}${cells.map((cell, i) => cell.padStart(widths[i] as number)).join("")}`;
  print(
    `\n${paint("bold", row("", ["requests", "failed", "reconnected", "messages", "slowest"]))}`,
  );
  for (const { name, clients: { counts } } of servers) {
    const cells = [counts.requests, counts.failed, counts.reconnected, counts.messages].map(number);
    print(row(name, [...cells, `${Math.round(counts.slowest)} ms`]));
    if (counts.problem !== undefined) print(paint("red", `    ${counts.problem}`));
  }
  const { requests, failed, reconnected } = totals();
  const zero = (count: number, what: string) =>
    paint(count === 0 ? "green" : "red", `${count} ${what}`);
  print(
    `\n  ${number(requests)} requests: ${zero(failed, "failed")}, ${
      zero(reconnected, "reconnected")
    }`,
  );
  if (failed + reconnected > 0) process.exitCode = 1;
}

const servers: Server[] = [];
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  process.once(signal, () => {
    endAll();
    process.exit(code);
  });
}
try {
  print(paint("bold", "Three servers are reloaded while their clients ask\n"));
  // In one file, as what is published: Node takes a while to read a hundred files of TypeScript.
  await build({
    entryPoints: [join(root, "tools/demo/server.ts")],
    outdir: folder,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    packages: "external",
  });
  deploy(`export const version = "1";\n`);
  servers.push(await start("node:http", "Node", pinned.node26, []));
  servers.push(
    await start("Deno.serve", "Deno", pinned.deno, ["run", "-A", "--quiet", "--no-check"]),
  );
  servers.push(await start("Bun.serve", "Bun", pinned.bun, []));
  print(
    `\n  Clients of each: ${CLIENTS.fresh} that connect for every request, ${CLIENTS.kept} that keep their`,
  );
  print(`  connection, and ${CLIENTS.webSockets} WebSockets, whose messages the server counts.`);
  await delay(PAUSE_MS);
  await step("Version 2 is deployed, and each process gets SIGHUP", "2");
  await step(
    "A broken version is deployed: it throws at its start",
    "broken",
    `throw new Error("DATABASE_URL is not set");\n`,
  );
  await step("The repaired version 3 is deployed", "3");
  await Promise.all(servers.map(({ clients }) => clients.stop()));
  clearInterval(progress);
  summarize();
} finally {
  clearInterval(progress);
  endAll();
}

/** Servers of each kind that node has, below the preload: reloads under load, and no error. */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { get } from "node:https";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { connect as connectTls } from "node:tls";
import { fileURLToPath } from "node:url";
import { certificate } from "../fixtures/certificate.ts";
import { cleanUp } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const auto = join(dirname(fileURLToPath(import.meta.url)), "../../auto.ts");
const flag = { node: "--import", bun: "--preload", deno: "--preload" } as const;
const host = "127.0.0.1";
const RELOADS = 3;

type Readable = NodeJS.ReadableStream & {
  on(event: "error", listener: (error: Error) => void): unknown;
};

/** All that comes. A connection that ends without anything is an error. */
function read(stream: Readable): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    stream.on("data", (data) => text += data);
    stream.on("end", () => text === "" ? reject(new Error("no answer")) : resolve(text));
    stream.on("error", reject);
  });
}

async function overHttp2(url: string): Promise<string> {
  const session = connectHttp2(url, { rejectUnauthorized: false });
  try {
    return await Promise.race([
      read(session.request({ ":path": "/" })),
      new Promise<never>((_, reject) => session.on("error", reject)),
    ]);
  } finally {
    session.close();
  }
}

/** One question to each, in the order of the fixture. */
const clients: Record<string, (port: number) => Promise<string>> = {
  https: (port) =>
    new Promise((resolve, reject) => {
      get({ port, host, rejectUnauthorized: false, agent: false }, (response) =>
        read(response).then(resolve, reject))
        .on("error", reject);
    }),
  http2: (port) => overHttp2(`http://${host}:${port}`),
  "http2 with TLS": (port) => overHttp2(`https://${host}:${port}`),
  net: (port) => read(connect(port, host)),
  tls: (port) => read(connectTls({ port, host, rejectUnauthorized: false })),
};

for (const runtime of runtimes) {
  // Deno 2.9 ends with an assertion of nghttp2's (find_stream_on_goaway_func) now and then where
  // sessions end on both sides at once.
  const kinds = Object.entries(clients).filter(([kind]) =>
    runtime.kind !== "deno" || !kind.startsWith("http2")
  );
  test(`${runtime.name}: auto: https, http2, net and tls: ${RELOADS} reloads under load`, async (t) => {
    const ports = Object.fromEntries(
      await Promise.all(
        Object.keys(clients).map(async (kind) => [kind, await freePort()] as const),
      ),
    );
    const program = startProgram(t, runtime, {
      flags: [...runtime.flags, flag[runtime.kind], auto],
      script: fixture("auto_kinds.mjs"),
      env: {
        PORTS: JSON.stringify(Object.values(ports)),
        CERTIFICATE: JSON.stringify(certificate),
        RELOAD_SELF_PROBATION: "200ms",
      },
    });
    let current = (await program.report("up")).pid;
    const errors: string[] = [];
    const seen = new Map(kinds.map(([kind]) => [kind, new Set<string>()]));
    let isOver = false;
    cleanUp(t, () => void (isOver = true));
    const running = kinds.map(async ([kind, ask]) => {
      while (!isOver) {
        await ask(ports[kind] as number).then(
          (text) => seen.get(kind)?.add(text),
          ({ message }) => errors.push(`${kind}: ${message}`),
        );
      }
    });
    for (let i = 0; i < RELOADS; i++) {
      program.signal(current);
      const next = (await program.report("up", ({ pid }) =>
        pid !== current, program.reports.length)).pid;
      await until("the old process to be gone", () => !isAlive(current));
      await until(
        "all kinds to answer",
        () => [...seen.values()].every((texts) => texts.has(`pid ${next}`)),
      );
      current = next;
    }
    isOver = true;
    await Promise.all(running);
    assert.deepEqual([...new Set(errors)], [], program.lines.join("\n"));
    program.signal(current, "SIGTERM");
    await until("all to be gone", () => program.pids().length === 0);
  });
}

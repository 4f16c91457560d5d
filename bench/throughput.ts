/** Requests per second with the library and without, in turns. */
import { connect, type Socket } from "node:net";
import { startServer } from "../tests/load/rows.ts";
import type { TestScope } from "../tests/support/program.ts";
import type { Runtime } from "../tests/support/runtimes.ts";
import { median } from "./statistics.ts";

const CONNECTIONS = 32;
/** Requests that are sent at once: the client must not be what is measured. */
const PIPELINE = 8;
/** Milliseconds of one measurement. Many short ones that take turns say more than a few long ones: the machine has moods. */
const WINDOW = 300;
const WINDOWS_PER_ROUND = 4;
const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: bench\r\n\r\n";
/** The end of every answer: what pattern(1, 10) is. */
const BODY = "1/0:31;1/1";

/** Answers per second within `milliseconds`. */
async function measure(port: number, milliseconds: number): Promise<number> {
  let answers = 0;
  const sockets: Socket[] = [];
  const batch = GET.repeat(PIPELINE);
  for (let i = 0; i < CONNECTIONS; i++) {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    let missing = PIPELINE;
    let rest = "";
    socket.setEncoding("latin1");
    socket.on("data", (data: string) => {
      const text = rest + data;
      const parts = text.split(BODY);
      rest = parts.pop() as string;
      answers += parts.length;
      missing -= parts.length;
      if (missing > 0) return;
      missing = PIPELINE;
      socket.write(batch);
    });
    socket.on("error", () => {});
    socket.once("connect", () => socket.write(batch));
    sockets.push(socket);
  }
  // The first part warms both up.
  await new Promise((resolve) => setTimeout(resolve, milliseconds / 4));
  const [before, begun] = [answers, performance.now()];
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  const rate = (answers - before) / (performance.now() - begun) * 1000;
  for (const socket of sockets) socket.destroy();
  return rate;
}

/** The medians of so many rounds, and of the ratios within a round. */
export async function throughput(
  t: TestScope,
  runtime: Runtime,
  kind: "http" | "native",
  rounds: number,
): Promise<{ bare: number; library: number; ratio: number }> {
  const servers = [
    await startServer(t, runtime, { kind, bare: true }),
    await startServer(t, runtime, { kind }),
  ] as const;
  const rates: [number[], number[]] = [[], []];
  for (let i = 0; i < rounds * WINDOWS_PER_ROUND; i++) {
    // Each goes first as often as the other.
    for (const which of i % 2 === 0 ? [0, 1] as const : [1, 0] as const) {
      rates[which].push(await measure(servers[which].target.port as number, WINDOW));
    }
  }
  const [bare, library] = rates;
  const ratio = median(library.map((rate, i) => rate / (bare[i] as number)));
  for (const { program, first } of servers) program.signal(first, "SIGKILL");
  return { bare: median(bare), library: median(library), ratio };
}

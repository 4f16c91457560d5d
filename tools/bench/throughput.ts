/** Requests per second with the library and without, in turns. */
import { once } from "node:events";
import { connect } from "node:net";
import { startServer } from "../../tests/load/rows.ts";
import { cleanUp } from "../../tests/support/clean_up.ts";
import { freePort } from "../../tests/support/port.ts";
import type { Runtime } from "../../tests/support/runtimes.ts";
import { scoped } from "./scoped.ts";
import { median } from "../../tests/support/median.ts";

const CONNECTIONS = 32;
/** Requests that are sent at once: the client must not be what is measured. */
const PIPELINE = 8;
/**
 * Milliseconds of one measurement. Many short ones that take turns say more than a few long ones:
 * the machine has moods.
 */
const WINDOW = 50;
const WINDOWS = 20;
/**
 * Milliseconds until a process has compiled what is called often: in its first two seconds any two
 * differ, by up to three per cent.
 */
const WARM_UP = 3_000;
const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: bench\r\n\r\n";
/** The end of every answer: what pattern(1, 10) is. */
const BODY = "1/0:31;1/1";

/** How many clients make a connection for each request. */
const NEW_CLIENTS = 16;

/** Connections to one server, which ask only when they are told to. */
interface Clients {
  /** Answers per second within `milliseconds`. */
  measure(milliseconds: number): Promise<number>;
  /** The same, on a new connection for each. */
  measureNew(milliseconds: number): Promise<number>;
  close(): void;
}

/** Asks once, on a connection of its own. */
function askOnce(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true }, () => socket.write(GET));
    let answer = "";
    socket.on("error", reject);
    socket.setEncoding("latin1").on("data", (data) => {
      answer += data;
      if (!answer.endsWith(BODY)) return;
      socket.destroy();
      resolve();
    });
  });
}

async function openClients(port: number): Promise<Clients> {
  let answers = 0;
  let asking = false;
  let busy = 0;
  let whenIdle = () => {};
  const batch = GET.repeat(PIPELINE);
  const sockets = Array.from({ length: CONNECTIONS }, () => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    let missing = PIPELINE;
    let rest = "";
    socket.setEncoding("latin1");
    socket.on("data", (data: string) => {
      const parts = (rest + data).split(BODY);
      rest = parts.pop() as string;
      answers += parts.length;
      missing -= parts.length;
      if (missing > 0) return;
      missing = PIPELINE;
      if (asking) socket.write(batch);
      else if (--busy === 0) whenIdle();
    });
    return socket;
  });
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  return {
    async measure(milliseconds) {
      const idle = new Promise<void>((resolve) => whenIdle = resolve);
      [answers, asking, busy] = [0, true, sockets.length];
      const begun = performance.now();
      for (const socket of sockets) socket.write(batch);
      setTimeout(() => asking = false, milliseconds);
      await idle;
      return answers / (performance.now() - begun) * 1000;
    },
    async measureNew(milliseconds) {
      const begun = performance.now();
      let count = 0;
      await Promise.all(Array.from({ length: NEW_CLIENTS }, async () => {
        for (; performance.now() - begun < milliseconds; count++) await askOnce(port);
      }));
      return count / (performance.now() - begun) * 1000;
    },
    close: () => sockets.forEach((socket) => socket.destroy()),
  };
}

/** Answers per second, without the library and with it. */
export interface Rates {
  readonly bare: number;
  readonly library: number;
  readonly ratio: number;
}

/**
 * The medians of so many rounds, and of their ratios. With `preload`, the arguments for that, the
 * same program is compared with itself. Each round has processes of its own: two of the very same
 * program differ by some per cent, for as long as they live, by how their code came to be compiled
 * and where it lies.
 */
export async function throughput(
  runtime: Runtime,
  kind: "http" | "adopted",
  rounds: number,
  preload: readonly string[] | undefined = undefined,
): Promise<{ kept: Rates; fresh: Rates }> {
  const rates = { kept: [[], []] as [number[], number[]], fresh: [[], []] as [number[], number[]] };
  for (let i = 0; i < rounds; i++) {
    await scoped(async (t) => {
      // Each is the first as often as the other.
      const order = i % 2 === 0 ? [0, 1] as const : [1, 0] as const;
      const clients = new Map<0 | 1, Clients>();
      for (const which of order) {
        const bare = which === 0 || preload !== undefined;
        const runtimeFlags = which === 0 || preload === undefined
          ? runtime.flags
          : [...runtime.flags, ...preload];
        // A preload leaves servers alone whose port the kernel has chosen.
        const ports = preload === undefined ? undefined : [await freePort()];
        const { target } = await startServer(t, runtime, { kind, bare, ports }, { runtimeFlags });
        const opened = await openClients(target.port as number);
        cleanUp(t, opened.close);
        clients.set(which, opened);
        await opened.measure(WARM_UP);
      }
      for (const how of ["kept", "fresh"] as const) {
        const seen: [number[], number[]] = [[], []];
        for (let j = 0; j < WINDOWS; j++) {
          for (const which of order) {
            const { measure, measureNew } = clients.get(which) as Clients;
            seen[which].push(await (how === "kept" ? measure : measureNew)(WINDOW));
          }
        }
        for (const which of order) rates[how][which].push(median(seen[which]));
      }
    });
  }
  return { kept: summary(rates.kept), fresh: summary(rates.fresh) };
}

function summary([bare, library]: [number[], number[]]): Rates {
  const ratio = median(library.map((rate, i) => rate / (bare[i] as number)));
  return { bare: median(bare), library: median(library), ratio };
}

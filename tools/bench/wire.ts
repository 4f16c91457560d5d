/** What clients behind a wire notice of reloads, for every kind of server: see tests/load/wire.ts. */
import { certificate } from "../../tests/fixtures/certificate.ts";
import { describeThinking, failed } from "../../tests/load/thinking.ts";
import { runWire, type WireRow, wireRowsOf } from "../../tests/load/wire.ts";
import { runtimes } from "../../tests/support/runtimes.ts";
import { scoped } from "./scoped.ts";

/** Milliseconds that each direction of the wire takes. */
const LATENCY = Number(process.env.LATENCY ?? 10);
const CLIENTS = Number(process.env.CLIENTS ?? 300);
/** Their handshakes are the work of this process, too. */
const TLS_CLIENTS = Math.ceil(CLIENTS * 2 / 3);
const RELOADS = Number(process.env.RELOADS ?? 4);

/** Measures each row, and prints it. It is good when nothing failed, and, where connections can move, none was made anew. */
export async function wire(
  isWanted: (row: WireRow) => boolean,
  print: (ok: boolean, ...columns: string[]) => void,
): Promise<void> {
  const rows = wireRowsOf(runtimes.filter(({ name }) => name !== "node22" && name !== "node24"));
  for (const row of rows.filter(isWanted)) {
    const isTls = row.setup.tls === certificate;
    const clients = isTls ? TLS_CLIENTS : CLIENTS;
    await scoped(async (t) => {
      const name = row.name.padEnd(24);
      try {
        const options = { clients, reloads: RELOADS, wire: { toServer: LATENCY, toClient: LATENCY } };
        const tally = await runWire(t, row, options);
        const ok = failed(tally.failures) === 0 && (isTls || tally.connections === clients);
        print(ok, name, `${clients} clients, ${RELOADS} reloads`, describeThinking(tally));
      } catch (error) {
        print(false, name, String(error).split("\n")[0] as string);
      }
    });
  }
}

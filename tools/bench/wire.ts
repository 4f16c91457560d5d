/**
 * What clients behind a wire notice of reloads, for every kind of server (see tests/load/wire.ts),
 * and for nginx and node:cluster.
 */
import { certificate } from "../../tests/fixtures/certificate.ts";
import {
  describeThinking,
  failed,
  startThinking,
  type ThinkingTally,
} from "../../tests/load/thinking.ts";
import { startRelay } from "../../tests/load/relay.ts";
import { runWire, wireRowsOf } from "../../tests/load/wire.ts";
import type { TestScope } from "../../tests/support/clean_up.ts";
import { until } from "../../tests/support/wait.ts";
import { prepareStage } from "./compare/stage.ts";
import { type Subject, subjects, whyNot } from "./compare/subjects.ts";
import { type Bench, runtimesOf } from "./options.ts";
import { scoped } from "./scoped.ts";

const OTHERS = ["nginx -s reload", "node:cluster, by hand"];

/**
 * Reloads another server so many times. Each time, all clients have been answered by the new
 * version.
 */
async function runOther(
  t: TestScope,
  subject: Subject,
  clients: number,
  reloads: number,
  latency: number,
): Promise<ThinkingTally> {
  const stage = await prepareStage(t);
  const server = await subject.start(stage);
  const relay = await startRelay(t, { port: stage.port }, { toServer: latency, toClient: latency });
  const thinking = startThinking(relay.target, clients, { answers: "version" });
  try {
    for (let version = 0;; version++) {
      await until(
        `all clients to be answered by version ${version}`,
        () => thinking.answeredBy(version) === clients,
      );
      if (version === reloads) break;
      stage.setVersion(version + 1);
      await server.reload();
    }
  } finally {
    await thinking.stop();
  }
  return thinking.tally;
}

/**
 * Measures each row, and prints it. It is good when nothing failed, and, where connections can
 * move, none was made anew.
 */
export async function wire({ asked, isWanted, print }: Bench): Promise<void> {
  const latency = asked.number("latency", 10);
  const clients = asked.number("clients", 300);
  const reloads = asked.number("reloads", 4);
  for (const row of wireRowsOf(runtimesOf(asked, true)).filter(({ name }) => isWanted(name))) {
    const isTls = row.setup.tls === certificate;
    // Their handshakes are the work of this process, too.
    const count = isTls ? Math.ceil(clients * 2 / 3) : clients;
    await scoped(async (t) => {
      const name = row.name.padEnd(24);
      try {
        const tally = await runWire(t, row, {
          clients: count,
          reloads,
          wire: { toServer: latency, toClient: latency },
        });
        const ok = failed(tally.failures) === 0 && (isTls || tally.connections === count);
        print(ok, name, `${count} clients, ${reloads} reloads`, describeThinking(tally));
      } catch (error) {
        print(false, name, String(error).split("\n")[0] as string);
      }
    });
  }
  // For comparison: what they lose is not ours to judge.
  for (const subject of subjects.filter(({ name }) => OTHERS.includes(name) && isWanted(name))) {
    const why = whyNot(subject);
    if (why !== undefined) {
      print(true, subject.name.padEnd(24), `not measured: ${why}`);
      continue;
    }
    await scoped(async (t) => {
      const tally = await runOther(t, subject, clients, reloads, latency);
      print(
        true,
        subject.name.padEnd(24),
        `${clients} clients, ${reloads} reloads`,
        describeThinking(tally),
      );
    });
  }
}

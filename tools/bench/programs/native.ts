/** The smallest server of Deno.serve and of Bun.serve. */
import { listen } from "../../../mod.ts";

// Each runtime knows only its own, and Deno takes long for the first look at `process`.
// deno-lint-ignore no-explicit-any
const { Deno, Bun } = globalThis as any;
const [pid, port] = Deno !== undefined ? [Deno.pid, Number(Deno.args[0])] : [process.pid, Number(Bun.argv[2])];

const token = listen({ probation: 20, idleGrace: 20 });
const answer = token.fetch(() => new Response(String(pid)));

if (Deno !== undefined) {
  const server = Deno.serve({ port, reusePort: true, onListen() {} }, answer);
  token.drained().then(() => server.shutdown());
} else {
  const server = Bun.serve({ port, reusePort: true, fetch: answer });
  token.cancelled().then(() => server.stop());
}

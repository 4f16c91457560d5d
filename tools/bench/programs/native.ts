/** The smallest server of Deno.serve and of Bun.serve. */
import { listen } from "../../../mod.ts";

// Each runtime knows only its own, and Deno takes long for the first look at `process`.
// deno-lint-ignore no-explicit-any
const { Deno, Bun } = globalThis as any;
const [pid, port] = Deno !== undefined
  ? [Deno.pid, Number(Deno.args[0])]
  : [process.pid, Number(Bun.argv[2])];

const token = listen({ probation: 20, idleGrace: 20 });
const answer = () => new Response(String(pid));

if (Deno !== undefined) token.adopt(Deno.serve)({ port, onListen() {} }, answer);
else token.adopt(Bun.serve)({ port, fetch: answer });

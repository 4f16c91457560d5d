/**
 * `Deno.serve` with Deno's standard library: each answer has a deadline.
 *
 *     deno run --unstable-net --allow-net --allow-env --allow-ffi --allow-run=deno examples/deno/server.ts --port 8000
 */
import { deadline } from "@std/async/deadline";
import { parseArgs } from "@std/cli/parse-args";
import { listen } from "../../mod.ts";

const { port, timeout } = parseArgs(Deno.args, { string: ["port", "timeout"], default: { port: "8000", timeout: "5000" } });
const token = listen({ logger: console });

async function answer({ url }: Request): Promise<Response> {
  if (new URL(url).pathname === "/never") await new Promise(() => {});
  return new Response(`pid ${Deno.pid}, generation ${token.generation}\n`);
}

const handler = token.fetch((request: Request) =>
  deadline(answer(request), Number(timeout)).catch(() => new Response("too late\n", { status: 504 }))
);
const server = Deno.serve({ port: Number(port), reusePort: true }, handler);

await token.drained(); // Deno answers 500 to uploads that are under way when it is shut down.
await server.shutdown();

/**
 * `Deno.serve` with Deno's standard library: each answer has a deadline.
 *
 *     deno run --allow-net --allow-env --allow-ffi --allow-run=deno examples/deno/server.ts --port
 *     8000
 */
import { deadline } from "@std/async/deadline";
import { parseArgs } from "@std/cli/parse-args";
import { listen, type Token } from "../../mod.ts";

/** Serves until the token is cancelled; then it is drained and stopped. Returns the port. */
export function start(token: Token, port: number, timeout: number): number {
  async function answer({ url }: Request): Promise<Response> {
    if (new URL(url).pathname === "/never") await new Promise(() => {});
    return new Response(`pid ${Deno.pid}, generation ${token.generation}\n`);
  }
  const serve = token.adopt(Deno.serve);
  const { addr } = serve(
    { port, onListen() {} },
    (request) =>
      deadline(answer(request), timeout).catch(() => new Response("too late\n", { status: 504 })),
  );
  return addr.port;
}

if (import.meta.main) {
  const options = {
    string: ["port", "timeout"],
    default: { port: "8000", timeout: "5000" },
  } as const;
  const { port, timeout } = parseArgs(Deno.args, options);
  start(listen({ logger: console }), Number(port), Number(timeout));
}

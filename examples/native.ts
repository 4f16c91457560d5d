/** The runtime's own server: `Deno.serve` or `Bun.serve`. PORT says where it listens. */
import process from "node:process";
import { listen } from "../mod.ts";

// A program of your own names the one that it runs on; this file is for both.
// deno-lint-ignore no-explicit-any
const { Bun, Deno } = globalThis as any;

const token = listen({ logger: console });
const port = Number(process.env.PORT ?? 8000);
const hello = () => new Response(`pid ${process.pid}\n`);

if (Bun !== undefined) {
  const serve = token.adopt(Bun.serve);
  serve({ port, routes: { "/": hello, "/about": new Response("about\n") } });
} else {
  const serve = token.adopt(Deno.serve);
  serve({ port }, hello);
}

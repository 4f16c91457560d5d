/** Deno.serve and Bun.serve with this library. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { listen } from "@js0/reload-self";

const version = readFileSync(process.env.VERSION_FILE, "utf8").trim();
const token = listen();
const fetch = token.fetch(() => new Response(version));
const options = { port: Number(process.env.PORT), hostname: "127.0.0.1", reusePort: true };
const server = globalThis.Deno ? Deno.serve({ ...options, onListen() {} }, fetch) : Bun.serve({ ...options, fetch });
console.log(process.pid);
await token.drained();
await (globalThis.Deno ? server.shutdown() : server.stop());

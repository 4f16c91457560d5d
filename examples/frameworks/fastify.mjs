/** Fastify makes its server itself: bind that one, when the plugins are ready. */
import process from "node:process";
import fastify from "fastify";
import { listen } from "../../mod.ts";

const token = listen({ logger: console });
const app = fastify();
app.get("/", () => `pid ${process.pid}, generation ${token.generation}\n`);
await app.ready();
await token.bind(app.server, { port: Number(process.env.PORT ?? 8000) });

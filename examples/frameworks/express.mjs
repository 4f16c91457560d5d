/** Express. Fastify, Koa and every other framework on node:http are bound in the same way. */
import { createServer } from "node:http";
import process from "node:process";
import express from "express";
import { listen } from "../../mod.ts";

const token = listen({ logger: console });
const app = express();
app.get("/", (_request, response) => {
  response.send(`pid ${process.pid}, generation ${token.generation}\n`);
});
await token.bind(createServer(app), { port: Number(process.env.PORT ?? 8000) });

/** Koa. */
import { createServer } from "node:http";
import process from "node:process";
import Koa from "koa";
import { listen } from "../../mod.ts";

const token = listen({ logger: console });
const app = new Koa();
app.use((context) => {
  context.body = `pid ${process.pid}, generation ${token.generation}\n`;
});
await token.bind(createServer(app.callback()), { port: Number(process.env.PORT ?? 8000) });

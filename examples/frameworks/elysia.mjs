/** Elysia. */
import process from "node:process";
import { Elysia } from "elysia";
import { serve } from "../../serve.ts";

const app = new Elysia();
app.get("/", () => `pid ${process.pid}, generation ${token.generation}\n`);
const { token } = await serve(app, {
  port: Number(process.env.PORT ?? 8000),
  listen: { logger: console },
});

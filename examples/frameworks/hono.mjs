/** Hono, and every other app with a method `fetch`. `reload-self serve app.mjs` does the same for a module that exports the app. */
import process from "node:process";
import { Hono } from "hono";
import { serve } from "../../serve.ts";

const app = new Hono();
app.get("/", (context) => context.text(`pid ${process.pid}, generation ${token.generation}\n`));
const { token } = await serve(app, {
  port: Number(process.env.PORT ?? 8000),
  listen: { logger: console },
});

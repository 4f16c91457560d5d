import { Hono } from "hono";
const app = new Hono();
app.get("/", (context) => context.text(`pid ${Deno.pid}`));
Deno.serve({ port: Number(Deno.env.get("PORT")) }, app.fetch);

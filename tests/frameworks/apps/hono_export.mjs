import { Hono } from "hono";
const app = new Hono();
app.get("/", (context) => context.text(`pid ${process.pid}`));
export default { port: process.env.PORT, fetch: app.fetch };

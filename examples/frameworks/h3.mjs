/** H3. */
import process from "node:process";
import { H3 } from "h3";
import { serve } from "../../serve.ts";

const app = new H3();
app.get("/", () => `pid ${process.pid}, generation ${token.generation}\n`);
const { token } = await serve(app, {
  port: Number(process.env.PORT ?? 8000),
  listen: { logger: console },
});

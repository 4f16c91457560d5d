import { node } from "@elysiajs/node";
import { Elysia } from "elysia";
new Elysia({ adapter: node() }).get("/", () => `pid ${process.pid}`).listen(process.env.PORT);

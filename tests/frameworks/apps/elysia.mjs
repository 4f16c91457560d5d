import { Elysia } from "elysia";
new Elysia().get("/", () => `pid ${process.pid}`).listen(Number(process.env.PORT));

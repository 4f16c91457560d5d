/** What a program may be like. */
import { createServer, type RequestListener } from "node:http";
import process from "node:process";
// @ts-expect-error: it has no types, as most frameworks have none.
import express from "express";
import { listen } from "../../../mod.ts";

const token = listen({ probation: 20, idleGrace: 20 });
const app = express();
app.get(
  "/",
  (_request: unknown, response: { send(text: string): void }) => response.send(String(process.pid)),
);
await token.bind(createServer(app as RequestListener), { port: Number(process.argv[2]) });

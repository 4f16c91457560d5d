/**
 * HTTPS, with a certificate that may be renewed at any time: a reload reads it again. For certbot:
 * `--deploy-hook "reload-self reload <pid file>"`.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import process from "node:process";
import { listen } from "../mod.ts";

const token = listen({ logger: console, pidFile: process.env.PID_FILE ?? "https.pid" });
const server = createServer(
  {
    key: readFileSync(process.env.KEY ?? "privkey.pem"),
    cert: readFileSync(process.env.CERT ?? "fullchain.pem"),
  },
  (_request, response) => response.end(`pid ${process.pid}, generation ${token.generation}\n`),
);
await token.bind(server, { port: Number(process.env.PORT ?? 8443) });

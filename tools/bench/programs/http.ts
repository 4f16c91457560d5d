/** The smallest server of node:http. */
import { createServer } from "node:http";
import process from "node:process";
import { listen } from "../../../mod.ts";

const token = listen({ probation: 20, idleGrace: 20 });
const server = createServer((_request, response) => response.end(String(process.pid)));
await token.bind(server, { port: Number(process.argv[2]) });

/** The build of SvelteKit's adapter-node exports a handler for node:http. */
import { realpathSync } from "node:fs";
import { createServer } from "node:http";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { listen } from "@js0/reload-self";

const token = listen({ pidFile: "app.pid", logger: console });
// By its real path: on Deno, what this release loads late would come from the next one otherwise.
const { handler } = await import(pathToFileURL(realpathSync("current/handler.js")).href);
await token.bind(createServer(handler), { port: Number(process.env.PORT ?? 3000) });

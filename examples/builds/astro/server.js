/**
 * The build of @astrojs/node exports a handler for node:http, and starts a server of its own unless
 * ASTRO_NODE_AUTOSTART is `disabled`.
 */
import { realpathSync } from "node:fs";
import { createServer } from "node:http";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { listen } from "@js0/reload-self";

process.env.ASTRO_NODE_AUTOSTART = "disabled";
const token = listen({ pidFile: "app.pid", logger: console });
// By its real path: on Deno, what this release loads late would come from the next one otherwise.
const { handler } = await import(pathToFileURL(realpathSync("current/server/entry.mjs")).href);
await token.bind(createServer(handler), { port: Number(process.env.PORT ?? 4321) });

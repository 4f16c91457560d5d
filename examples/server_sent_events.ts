/**
 * Server-sent events, and long polls, that miss nothing across a reload: a response that never ends
 * cannot move to the new process, so it is ended when the token is cancelled. `EventSource` comes
 * back by itself, and says with `Last-Event-ID` what it has got. The events are in a file, where
 * both processes find them. Runs unchanged on Deno, Bun and Node:
 *
 *     node examples/server_sent_events.ts
 *     curl -N localhost:8000/events
 *     curl -d hello localhost:8000
 */
import { appendFile, open } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { listen } from "../mod.ts";

const token = listen();
const file = process.env.EVENTS ?? "events.txt";
await appendFile(file, "");

/** An event is a line of the file; its number is the position behind it. */
async function readEvents(after: number): Promise<{ id: number; text: string }[]> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read(new Uint8Array(Math.max(0, size - after)), {
      position: after,
    });
    const lines = new TextDecoder().decode(buffer.subarray(0, bytesRead)).split("\n").slice(0, -1);
    let id = after;
    return lines.map((text) => ({ id: id += new TextEncoder().encode(text).length + 1, text }));
  } finally {
    await handle.close();
  }
}

/**
 * The events after a number, as soon as there are any; none when the token is cancelled, or the
 * client has gone.
 */
async function nextEvents(
  after: number,
  response: ServerResponse,
): Promise<{ id: number; text: string }[]> {
  while (!token.isCancelled && !response.destroyed) {
    const events = await readEvents(after);
    if (events.length > 0) return events;
    await delay(100, undefined, { signal: token.signal }).catch(() => {});
  }
  return [];
}

/** One response for many events. */
async function stream(request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.write("retry: 100\n\n"); // How long the client waits before it comes back.
  let last = Number(request.headers["last-event-id"] ?? 0);
  for (let events; (events = await nextEvents(last, response)).length > 0;) {
    for (const { id, text } of events) response.write(`id: ${id}\ndata: ${text}\n\n`);
    last = events.at(-1)?.id ?? last;
  }
  response.end(); // The client connects again: to the new process.
}

/** A response for the next events. An empty one means: ask again. */
async function poll(after: number, response: ServerResponse): Promise<void> {
  const events = await nextEvents(after, response);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(events));
}

async function publish(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let text = "";
  for await (const chunk of request) text += chunk;
  await appendFile(file, `${text.replaceAll("\n", " ")}\n`);
  response.writeHead(204).end();
}

const server = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
  try {
    if (request.method === "POST") await publish(request, response);
    else if (pathname === "/events") await stream(request, response);
    else if (pathname === "/poll") await poll(Number(searchParams.get("after") ?? 0), response);
    else response.writeHead(404).end();
  } catch (error) {
    console.error(error);
    response.destroy();
  }
});
await token.bind(server, { port: Number(process.env.PORT ?? 8000) });
console.log(`pid ${process.pid}, generation ${token.generation}: listening`);

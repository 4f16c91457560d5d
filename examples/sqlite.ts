/**
 * A database that is open as long as the process: both processes have it open during a reload, and
 * the old one closes it when its last request is answered. For Node, Deno (`node:sqlite`) and Bun
 * (`bun:sqlite`).
 */
import { createServer } from "node:http";
import process from "node:process";
import { listen } from "../mod.ts";

/** The part that both modules have in common. */
interface Database {
  exec(sql: string): unknown;
  prepare(sql: string): { get(): unknown };
  close(): void;
}

async function openDatabase(file: string): Promise<Database> {
  const name = "Bun" in globalThis ? "bun:sqlite" : "node:sqlite";
  const { Database, DatabaseSync } = await import(name);
  return new (Database ?? DatabaseSync)(file);
}

const token = listen({ logger: console });
const database = await openDatabase(process.env.DATABASE ?? "visits.db");
// Two processes write for a moment: with a write-ahead log they wait for one another instead of
// failing.
database.exec("PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 5000");
database.exec(
  "CREATE TABLE IF NOT EXISTS visits (n INTEGER); INSERT INTO visits SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM visits)",
);
const visit = database.prepare("UPDATE visits SET n = n + 1 RETURNING n");

const server = createServer((_request, response) => {
  const { n } = visit.get() as { n: number };
  response.end(`visit ${n}, generation ${token.generation}\n`);
});
await token.bind(server, { port: Number(process.env.PORT ?? 8000) });

await token.drained();
database.close();
console.log(`pid ${process.pid}: the database is closed`);

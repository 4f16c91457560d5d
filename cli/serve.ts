/** `reload-self serve`: a module that exports fetch. */
import { realpathSync } from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { attempt } from "../src/core/attempt.ts";
import { describeError } from "../src/core/describe_error.ts";
import { type FetchApp, serve, type ServeOptions } from "../serve.ts";
import type { Token } from "../src/core/token.ts";
import { Failure, ModuleError, usage } from "./options.ts";

/**
 * Loads a module, serves it, and prints the address.
 *
 * @param begin Called when it is served, to set up what else reloads it.
 */
export async function serveModule(
  module: string,
  options: ServeOptions,
  begin?: (token: Token) => void,
): Promise<void> {
  const url = /^[a-z]{2,}:/i.test(module) ? module : fileOf(module).href;
  const exports = await import(url).catch((error) => {
    throw new ModuleError(error);
  });
  const app = findApp(exports, module);
  let served: Awaited<ReturnType<typeof serve>>;
  try {
    served = await serve(app, options);
  } catch (error) {
    throw new Failure(2, explain(error, options));
  }
  const { url: where, token } = served;
  const generation = token.generation > 0 ? `, generation ${token.generation}` : "";
  // Deno throws where the terminal that the program was started on is closed.
  attempt(() => console.log(`Listening on ${where} (pid ${process.pid}${generation})`));
  if (begin !== undefined) usage(begin, token);
  await token.cancelled();
  await token.drained();
}

/**
 * Where the module is, without links: what it imports late comes from its own release, also when a
 * link in its path leads to the next one by then. Deno does not do this itself.
 */
function fileOf(module: string): URL {
  try {
    return pathToFileURL(realpathSync(module));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      throw new Failure(2, `there is no module ${module}`);
    }
    throw error;
  }
}

function findApp(exports: { default?: unknown }, module: string): FetchApp {
  const app = exports.default as FetchApp | undefined;
  if (typeof app?.fetch === "function") return app;
  throw new Failure(
    2,
    `${module} has no fetch handler: it needs \`export default { fetch(request) { ... } }\`, or an app that has one`,
  );
}

function explain(error: unknown, { port, unix }: ServeOptions): string {
  const { code, name } = error as { code?: unknown; name?: unknown };
  if (code === "EADDRINUSE" || name === "AddrInUse") {
    const where = unix ?? `port ${port ?? process.env.PORT ?? 8000}`;
    return `${where} is in use by another program: stop that, or choose another one with ${
      unix === undefined ? "--port" : "--unix"
    }`;
  }
  return describeError(error);
}

#!/usr/bin/env node
/**
 * The command line: `reload-self run | serve | reload | status | doctor`.
 *
 * ```sh
 * deno run -A jsr:@js0/reload-self/cli --help
 * ```
 *
 * @module
 */
import process from "node:process";
import { leaveProcessAlone } from "../src/core/marks.ts";
import { whyTooOld } from "../adapters/node/version.ts";

leaveProcessAlone(); // The preload may be in the environment of this process as well.
// Before anything else is loaded: an old Node fails on what the modules import, and shows a stack.
const problem = whyTooOld(process);
if (problem === undefined) {
  const { main } = await import("./commands.ts");
  await main(process.argv.slice(2));
} else {
  console.error(`reload-self: ${problem}`);
  process.exitCode = 1;
}

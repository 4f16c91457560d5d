/** What makes `reload-self serve` reload by itself. */
import type { Token } from "../src/core/token.ts";
import { reloadAbove, reloadEvery, reloadOnChange } from "../triggers.ts";
import type { Triggers } from "./triggers.ts";

const logger = { info: (line: string) => console.error(line) };

/**
 * Returns what sets the triggers up, and throws a TypeError that names the option that is wrong. A
 * successor has them as well: its command line is the same.
 */
export function prepareServed(
  { watch, memory, memoryPause: pause, every }: Triggers,
): (token: Token) => void {
  return (token) => {
    if (watch.length > 0) reloadOnChange(token, watch, { logger });
    if (memory !== undefined) reloadAbove(token, { memory, pause, logger });
    if (every !== undefined) reloadEvery(token, every, { logger });
  };
}

/**
 * The versions of Node that this library runs on. Imports nothing, so that the command line can ask
 * on any Node.
 */

/** With `Promise.withResolvers` and `process.getBuiltinModule`. */
const OLDEST = [22, 6] as const;

/** Why this version of Node is too old; `undefined` where it is not, and on other runtimes. */
export function whyTooOld(
  { version, versions }: { version: string; versions: Record<string, string | undefined> },
): string | undefined {
  // Each has a Node's version for compatibility.
  if (versions.bun !== undefined || versions.deno !== undefined) return undefined;
  const [major = 0, minor = 0] = (versions.node ?? "").split(".").map(Number);
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return undefined;
  return `@js0/reload-self needs Node ${OLDEST.join(".")} or later, and this is ${version}`;
}

/**
 * The result of `work`, or `undefined` where it throws: no /proc, no permission, no such file. Each
 * caller has a less exact way.
 */
export function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

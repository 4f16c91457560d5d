/** What `work` returns, or `undefined` where it throws: no /proc, no permission, no such file. There is a less exact way for each. */
export function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

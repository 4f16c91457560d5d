/**
 * The first name of an address that is not taken: there may be several sockets at one address, and
 * the name of one that was closed is free again.
 */
export function freeKey(base: string, taken: Pick<ReadonlySet<string>, "has">): string {
  let key = base;
  for (let i = 2; taken.has(key); i++) key = `${base} #${i}`;
  return key;
}

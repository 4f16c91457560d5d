/**
 * The first name of an address that nothing open has: there may be several sockets at one address,
 * and the name of one that was closed is free again.
 */
export function freeKey(base: string, open: readonly { readonly key: string }[]): string {
  const taken = new Set(open.map(({ key }) => key));
  let key = base;
  for (let i = 2; taken.has(key); i++) key = `${base} #${i}`;
  return key;
}

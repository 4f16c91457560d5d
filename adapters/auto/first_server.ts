import { originalOf } from "../../src/core/marks.ts";
import type { ServerPrototype } from "./servers.ts";

/**
 * What every constructor of a server of node:net sets, on all three runtimes, and no constructor of another emitter.
 */
const OF_SERVERS = "_unref";

/**
 * Calls back with the prototype of each kind of server when the first server of that kind is made. To load node:net and node:http for a
 * program that uses neither takes 40 ms on Bun and 60 ms on Deno; nothing tells when a program loads them.
 */
export function onFirstServer(emitter: object, found: (prototype: ServerPrototype) => void): void {
  Object.defineProperty(emitter, OF_SERVERS, {
    configurable: true,
    get: () => undefined,
    set(this: object, value: unknown) {
      Object.defineProperty(this, OF_SERVERS, { value, configurable: true, enumerable: true, writable: true });
      const prototype = ownerOf(this, "listen") as ServerPrototype | undefined;
      if (typeof prototype?.listen === "function" && originalOf(prototype.listen) === prototype.listen) found(prototype);
    },
  });
}

/** The object that has a member itself, on the way up from another. */
function ownerOf(object: object, name: string): object | undefined {
  if (Object.hasOwn(object, name)) return object;
  const above = Reflect.getPrototypeOf(object);
  return above === null ? undefined : ownerOf(above, name);
}

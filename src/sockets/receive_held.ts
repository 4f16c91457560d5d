import type { HeldSocket } from "../core/socket_adapter.ts";
import type { Link } from "../reload/handover.ts";

/** Keeps a socket that came as a descriptor, under a number; `undefined` where none has. */
export function receiveHeld({ descriptors }: Pick<Link, "descriptors">, number: unknown): HeldSocket | undefined {
  const [fd] = (typeof number === "number" ? descriptors?.receive(number) : undefined) ?? [];
  return fd === undefined ? undefined : { source: { received: fd }, release: () => descriptors?.discard([fd]) };
}

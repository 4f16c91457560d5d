import { createMailbox } from "./mailbox.ts";
import type { Link } from "./handover.ts";
import type { HandoverData } from "../protocol/reload.ts";

/** The data for the handovers of this process. */
export interface Inboxes {
  /** Gives data to the handover of this name. Returns whether there is one. */
  put(name: string, data: HandoverData, handle: unknown): boolean;
  /** Sets the receiver of a handover. */
  open(name: string, receive: Parameters<Link["onData"]>[0]): void;
}

/**
 * Makes the inboxes of one reload.
 *
 * @param misunderstood Called when a receiver throws or rejects: the other process has sent it
 * something that it could not expect.
 */
export function createInboxes(
  names: readonly string[],
  misunderstood: (name: string, error: unknown) => void,
): Inboxes {
  const inboxes = new Map(
    names.map((name) => [name, createMailbox<[data: HandoverData, handle?: unknown]>()]),
  );
  return {
    put(name, data, handle) {
      inboxes.get(name)?.put(data, handle);
      return inboxes.has(name);
    },
    open(name, receive) {
      inboxes.get(name)?.open((data, handle) => {
        // An async function, because it turns what is thrown at once into a rejection as well.
        (async () => await receive(data, handle))().catch((error) => misunderstood(name, error));
      });
    },
  };
}

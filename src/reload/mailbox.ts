/** A receiver that may be set later than the first messages arrive. */
export interface Mailbox<T extends unknown[]> {
  /** Gives the message to the receiver, or keeps it until there is one. */
  put(...message: T): void;
  /** Sets the receiver, and gives it what was kept. */
  open(receive: (...message: T) => void): void;
}

/** An empty mailbox without a receiver. */
export function createMailbox<T extends unknown[]>(): Mailbox<T> {
  let kept: T[] = [];
  let receiver: ((...message: T) => void) | undefined;
  return {
    put(...message) {
      if (receiver === undefined) kept.push(message);
      else receiver(...message);
    },
    open(receive) {
      receiver = receive;
      const messages = kept;
      kept = [];
      for (const message of messages) receive(...message);
    },
  };
}

/** Sockets of node:dgram on Deno. */
import type { Socket } from "node:dgram";
import type { DatagramAdapter } from "../../src/core/datagrams.ts";
import type { Libc } from "../../src/core/socket_adapter.ts";
import { descriptorDatagrams, type DescriptorSearch } from "../shared/descriptor_datagrams.ts";
import { joinAgain } from "../shared/datagram_opening.ts";
import { createBindable, handleOf } from "../shared/node_datagrams.ts";

/** What is below a socket of node:dgram; ext/node/polyfills/internal_binding/udp_wrap.ts. */
interface DenoHandle {
  onmessage: (...args: unknown[]) => void;
  readonly constructor: new () => DenoHandle;
  /** Returns 0, or the number of an error. */
  open(fd: number): number;
  /** Returns a new descriptor. */
  fdForIpc(): number;
  recvStart(): void;
  recvStop(): void;
  readonly addMembership: (...args: string[]) => number;
  readonly addSourceSpecificMembership: (...args: string[]) => number;
}

/**
 * Holds back what reads. Deno 2.9 reads on after `recvStop`: the datagram that it waits for is
 * still delivered. And `recvStart` while it waits would have it read twice at a time.
 */
function createHold(handle: DenoHandle): (isHeld: boolean) => void {
  const { onmessage } = handle;
  let isHeld = false;
  let isReading = true;
  handle.onmessage = (...args) => {
    if (isHeld) {
      handle.recvStop(); // It asks after this call whether to read the next one.
      isReading = false;
    }
    onmessage.apply(handle, args);
  };
  return (held) => {
    isHeld = held;
    if (held || isReading) return;
    isReading = true;
    handle.recvStart();
  };
}

/**
 * How datagram sockets pass on Deno.
 *
 * @param libc The C library, or why it cannot be called.
 */
export function denoDatagramAdapter(
  libc: () => Libc | string,
  refusal: () => string | undefined,
): DatagramAdapter {
  return descriptorDatagrams({
    libc,
    refusal,
    bindable(socket, key, where) {
      const own = socket as Socket;
      const handle = () => handleOf<DenoHandle>(own);
      let fd: number | undefined;
      let hold: ((isHeld: boolean) => void) | undefined;
      const one = createBindable(own, key, where, (shared, aside) => {
        const Handle = (handle() as DenoHandle).constructor;
        const raw = new Handle();
        if (raw.open((shared as { fd: number }).fd) !== 0) {
          throw new Error(`${key} cannot be opened on what the predecessor has sent`);
        }
        // The error of Deno 2.9 is always EINVAL: what another socket can join, this one has
        // joined.
        joinAgain(
          own,
          (_, method, args) =>
            aside(() =>
              handle()?.[method as "addMembership" | "addSourceSpecificMembership"](...args)
            ) === 0,
        );
        own.bind(raw as object);
      });
      function descriptor(search: DescriptorSearch): number | undefined {
        const duplicate = handle()?.fdForIpc() ?? -1;
        if (duplicate < 0) return undefined;
        if (fd === undefined || !search.isSame(fd, duplicate)) fd = search.otherOf(duplicate);
        search.close(duplicate);
        return fd;
      }
      return Object.assign(one, {
        descriptor,
        hold(isHeld: boolean) {
          const current = handle();
          if (current !== undefined) (hold ??= createHold(current))(isHeld);
        },
      });
    },
  });
}

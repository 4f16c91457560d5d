/** Sockets of node:dgram on Bun. */
import type { Socket } from "node:dgram";
import type { DatagramAdapter } from "../../src/core/datagrams.ts";
import { descriptorDatagrams } from "../shared/descriptor_datagrams.ts";
import { isMemberByCode, joinAgain } from "../shared/join_again.ts";
import { createBindable, handleOf } from "../shared/node_datagrams.ts";
import { bunLibc } from "./libc.ts";

/** How datagram sockets pass on Bun. */
export function bunDatagramAdapter(isLinux: boolean): DatagramAdapter {
  return descriptorDatagrams({
    libc: bunLibc,
    refusal: () =>
      !isLinux ? "Bun can do that on Linux only" : typeof bunLibc() === "string" ? "the C library is not found" : undefined,
    bindable(socket, key, where) {
      const own = socket as Socket;
      /** Known before Bun's handle says it. */
      let inherited: number | undefined;
      const one = createBindable(own, key, where, (shared) => {
        inherited = (shared as { fd: number }).fd;
        joinAgain(own, isMemberByCode);
        own.bind({ fd: inherited });
      });
      const descriptor = () => {
        const fd = handleOf<{ readonly fd?: number }>(own)?.fd;
        return fd !== undefined && fd >= 0 ? fd : inherited;
      };
      return Object.assign(one, { descriptor });
    },
  });
}

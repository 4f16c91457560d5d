/** The part of Bun's adapter that a start does not wait for. */
import type { Adapter } from "../../src/core/adapter.ts";
import { attachConsole, KERNEL, type Kernel32 } from "../../src/windows/console.ts";
import { takeAway } from "../../src/linux/listeners.ts";
import type { NodeStart } from "../node/adapter.ts";
import { readProc } from "../shared/node_basic_service.ts";
import { completeNodeAdapter } from "../node/complete.ts";
import { ifUsable } from "../shared/libc.ts";
import { bunConnections } from "./connections.ts";
import { bunHttp1 } from "./http1.ts";
import { bunLibc, openFfi } from "./libc.ts";
import { listenOnBun } from "./listening.ts";
import { listenInFront } from "./sockets.ts";
import type { Socket } from "node:dgram";
import type { DatagramAdapter } from "../../src/core/datagrams.ts";
import { descriptorDatagrams } from "../shared/descriptor_datagrams.ts";
import { isMemberByCode, joinAgain } from "../shared/datagram_opening.ts";
import { createBindable, handleOf } from "../shared/node_datagrams.ts";

/** Completes the adapter. */
export function completeBunAdapter(start: NodeStart): Adapter {
  const { process, handshake, snapshot, adapter } = start;
  if (handshake.generation !== undefined && process.platform === "win32") {
    attachConsole(process.ppid, openKernel);
  }
  const read = (name: string) => adapter.canReload ? readProc(process, "self", name) : undefined;
  return completeNodeAdapter({
    ...start,
    snapshot: { ...snapshot, cmdline: read("cmdline"), environ: read("environ") },
  }, {
    listen: process.platform === "linux" ? listenOnBun : listenInFront,
    http1: bunHttp1,
    libc: bunLibc,
    datagrams: bunDatagramAdapter(process.platform === "linux"),
    connections: bunConnections,
    stopListening({ fd }) {
      const libc = process.platform === "linux" ? ifUsable(bunLibc()) : undefined;
      return libc !== undefined && takeAway(libc, fd);
    },
  });
}

/** Windows' own library. */
export function openKernel(): Kernel32 {
  const { symbols } = openFfi().dlopen(KERNEL, {
    AttachConsole: { args: ["u32"], returns: "i32" },
  });
  return symbols as unknown as Kernel32;
}

/** How datagram sockets pass on Bun. */
function bunDatagramAdapter(isLinux: boolean): DatagramAdapter {
  return descriptorDatagrams({
    libc: bunLibc,
    refusal: () =>
      !isLinux
        ? "Bun can do that on Linux only"
        : typeof bunLibc() === "string"
        ? "the C library is not found"
        : undefined,
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

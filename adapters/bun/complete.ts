/** The part of Bun's adapter that a start does not wait for. */
import type { Adapter } from "../../src/core/adapter.ts";
import { attachConsole, KERNEL, type Kernel32 } from "../../src/windows/console.ts";
import { takeAway } from "../../src/linux/listeners.ts";
import type { NodeStart } from "../node/adapter.ts";
import { readProc } from "../shared/node_basic_service.ts";
import { completeNodeAdapter } from "../node/complete.ts";
import { bunConnections } from "./connections.ts";
import { bunDatagramAdapter } from "./dgram.ts";
import { bunHttp1 } from "./http1.ts";
import { bunLibc, openFfi } from "./libc.ts";
import { listenOnBun } from "./listening.ts";
import { listenInFront } from "./sockets.ts";

/** Completes the adapter. */
export function completeBunAdapter(start: NodeStart): Adapter {
  const { process, handshake, snapshot, adapter } = start;
  if (handshake.generation !== undefined && process.platform === "win32") attachConsole(process.ppid, openKernel);
  const read = (name: string) => adapter.canReload ? readProc(process, "self", name) : undefined;
  return completeNodeAdapter({ ...start, snapshot: { ...snapshot, cmdline: read("cmdline"), environ: read("environ") } }, {
    listen: process.platform === "linux" ? listenOnBun : listenInFront,
    http1: bunHttp1,
    libc: bunLibc,
    datagrams: bunDatagramAdapter(process.platform === "linux"),
    connections: bunConnections,
    stopListening({ fd }) {
      const libc = process.platform === "linux" ? bunLibc() : undefined;
      return typeof libc === "object" && takeAway(libc, fd);
    },
  });
}

/** Windows' own library. */
export function openKernel(): Kernel32 {
  const { symbols } = openFfi().dlopen(KERNEL, { AttachConsole: { args: ["u32"], returns: "i32" } });
  return symbols as unknown as Kernel32;
}

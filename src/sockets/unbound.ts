/** Servers that listen without `token.bind()`: a new process cannot take them over, and they keep the old one from ending. */
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { OwnSocket } from "../core/socket_adapter.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import { followEnd, type LingeringOptions } from "./lingering.ts";
import { createWarnOnce } from "./common.ts";

/** What the handover needs. */
export interface UnboundOptions extends Pick<LingeringOptions, "stopListening" | "holders"> {
  program: Pick<ProgramContext, "token" | "warn">;
  /** The listening sockets that this process has made, where they can be listed. */
  listening(): readonly OwnSocket[] | undefined;
  /** Whether a socket is handed over. */
  isBound(socket: OwnSocket): boolean;
  /** Whether this process hands any server over. */
  handsOver(): boolean;
  /** Whether the ports that cannot be shared are named by the handover of native servers: it knows more of them. */
  areNamed(): boolean;
  /** Whether the application waits for the state of its predecessor, which comes when this process is in charge. */
  awaitsState(): boolean;
  /** Calls back again and again, without keeping the process alive. */
  every: ServiceAdapter["every"] | undefined;
}

/** How often a new process looks whether it listens, in milliseconds. */
const CHECK_MS = 20;

function nameOf({ address }: OwnSocket): string {
  if (typeof address === "string") return address;
  return address.family === "IPv6" ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`;
}

/** The call that binds a server to the address of a socket. */
function callFor({ address }: OwnSocket): string {
  return `token.bind(server, ${
    typeof address === "string" ? `{ path: ${JSON.stringify(address)} }` : `{ port: ${address.port} }`
  })`;
}

/** The handover of servers that nobody has bound: it hands nothing over, and says so where it matters. */
export function createUnbound(options: UnboundOptions): Handover {
  const { program: { token, warn }, listening, isBound, handsOver, areNamed, awaitsState, every } = options;
  const warnOnce = createWarnOnce(warn);
  const unbound = () => listening()?.filter((socket) => !isBound(socket)) ?? [];

  followEnd({
    program: options.program,
    unbound,
    advise: (sockets) =>
      `it still listens on ${sockets.map(nameOf).join(", ")}, which keeps it from ending. Write \`await ${
        callFor(sockets[0] as OwnSocket)
      }\` instead of \`server.listen(...)\`, or close the server after \`await token.cancelled()\``,
    stopListening: options.stopListening,
    holders: options.holders,
    every,
  });

  function outgoing({ link }: OutgoingReload): OutgoingHandover {
    return {
      offer() {
        if (!handsOver() && unbound().length > 0) link.send({ mustListen: true }).catch(() => {});
      },
      retire() {
        const sockets = unbound().filter(({ address }) => typeof address === "string" || !areNamed());
        if (sockets[0] === undefined) return;
        warnOnce(
          `it listens on ${
            sockets.map(nameOf).join(", ")
          } by itself: that is not handed over, and clients that wait there may be ` +
            `lost. Write \`await ${callFor(sockets[0])}\` instead of \`server.listen(...)\``,
        );
      },
      explain(code) {
        if (code !== "exit" && code !== "refused" && (code !== "timeout" || handsOver())) {
          return undefined;
        }
        const sockets = unbound().filter(({ address }) => typeof address === "string" || !areNamed() || code !== "exit");
        if (sockets[0] === undefined) return undefined;
        return `this process listens on ${sockets.map(nameOf).join(", ")} by itself, and no second process can: write ` +
          `\`await ${callFor(sockets[0])}\` instead of \`server.listen(...)\``;
      },
    };
  }

  /**
   * Where the old process listens, but hands no server over, the new one has to listen somewhere as well: one that ignores the error of its
   * server would be ready without one. One that waits for the state listens later, as below `deno serve`.
   */
  function incoming({ link, offered }: IncomingReload): IncomingHandover {
    const listens = Promise.withResolvers<void>();
    let mustListen = false;
    let stop: (() => void) | undefined;
    link.onData((data) => void (mustListen ||= data.mustListen === true));
    return {
      complete: offered.then(() => {
        if (!mustListen || every === undefined) return;
        // This alone does not keep the process alive: one that has nothing more to do ends, and the reload has failed at once.
        stop = every(CHECK_MS, () => {
          if (listening()?.length === 0 && !token.isCancelled && !awaitsState()) return;
          stop?.();
          listens.resolve();
        });
        return listens.promise;
      }),
      takeOver: () => stop?.(),
    };
  }

  return {
    name: "the servers that are not bound",
    outgoing,
    incoming,
    isListening: () => unbound().length > 0,
  };
}

/**
 * A wire with a latency: a TCP relay that holds back what it passes on, in both directions.
 * Loopback hides what latency shows: a request that crosses the server's close on the wire is lost.
 *
 * It passes on bytes as they are (TLS too), a FIN as a FIN, a reset as a reset, each behind what
 * came before it. A client's `connect` is answered by the relay itself, at once; the server hears
 * of the connection after the delay, and a refusal reaches the client as a reset.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import type { Target } from "./http1.ts";

/** How long each direction takes. */
export interface RelayOptions {
  /** Milliseconds from the client to the server. Default: 10. */
  toServer?: number;
  /** Milliseconds from the server to the client. Default: 10. */
  toClient?: number;
}

/** A relay that listens on a port of its own, on 127.0.0.1. */
export interface Relay {
  /** Where clients connect: as to the server behind it. */
  readonly target: Target & { readonly port: number };
  /** How many connections it has accepted. */
  readonly accepted: number;
  /** How many of them are open, in at least one direction. */
  readonly open: number;
}

/** Starts a relay to a server. It ends with the test, and resets what is open then. */
export async function startRelay(
  t: TestScope,
  server: Target,
  { toServer = 10, toClient = 10 }: RelayOptions = {},
): Promise<Relay> {
  const sockets = new Set<Socket>();
  let accepted = 0;
  let open = 0;

  function follow(socket: Socket): void {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("close", () => sockets.delete(socket));
  }

  function relay(client: Socket): void {
    accepted++;
    open++;
    follow(client);
    const up = createDelay(toServer);
    const down = createDelay(toClient);
    let upstream: Socket | undefined;
    let ended = 0;
    const onEnd = () => {
      if (++ended === 2) open--;
    };
    up.pass(() => {
      upstream = connect({
        ...(server.path !== undefined
          ? { path: server.path }
          : { port: server.port as number, host: server.host ?? "127.0.0.1" }),
        allowHalfOpen: true,
      });
      follow(upstream);
      passOn(upstream, () => client, down, onEnd);
    });
    passOn(client, () => upstream as Socket, up, onEnd);
  }

  const listener = createServer({ allowHalfOpen: true }, relay);
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  cleanUp(t, () => {
    listener.close();
    for (const socket of sockets) socket.resetAndDestroy();
  });
  return {
    target: { port: (listener.address() as AddressInfo).port, tls: server.tls },
    get accepted() {
      return accepted;
    },
    get open() {
      return open;
    },
  };
}

/**
 * Passes on what a socket receives. `to` is asked only behind the delay: the connection to the
 * server is made then.
 */
function passOn(from: Socket, to: () => Socket, delay: Delay, onEnd: () => void): void {
  let hasEnded = false;
  let waits = false;
  const end = () => {
    if (!hasEnded) onEnd();
    hasEnded = true;
  };
  from.on("data", (data) =>
    delay.pass(() => {
      const other = to();
      if (other.destroyed || other.write(data) || waits) return;
      // The other side reads slowly: so does this one, then.
      waits = true;
      from.pause();
      other.once("drain", () => {
        waits = false;
        from.resume();
      });
    }));
  from.on("end", () => {
    end();
    delay.pass(() => void (to().destroyed || to().end()));
  });
  // A reset, or an answer to what was sent behind a close: the kernel reports both in this way. A
  // refused connection, too.
  from.on("error", () => delay.pass(() => to().resetAndDestroy()));
  from.on("close", end);
}

/** Does things a time later, in their order. */
interface Delay {
  pass(act: () => void): void;
}

function createDelay(milliseconds: number): Delay {
  const queue: { readonly due: number; readonly act: () => void }[] = [];

  function wait(): void {
    const [first] = queue;
    // Node's timers count whole milliseconds of the time at which a turn of the loop began, and so
    // come up to one too early.
    if (first !== undefined) setTimeout(run, Math.max(1, Math.ceil(first.due - performance.now())));
  }

  function run(): void {
    for (
      let [first] = queue;
      first !== undefined && first.due <= performance.now();
      [first] = queue
    ) {
      queue.shift();
      first.act();
    }
    wait();
  }

  return {
    pass(act) {
      queue.push({ due: performance.now() + milliseconds, act });
      if (queue.length === 1) wait();
    },
  };
}

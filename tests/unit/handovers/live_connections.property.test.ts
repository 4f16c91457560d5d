/**
 * Live connections in two simulated processes: random pieces of their streams, at random moments of
 * a reload, which may fail.
 */
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import fc from "fast-check";
import type { LiveSocket } from "../../../src/core/live.ts";
import type { ConnectionAdapter } from "../../../src/core/socket_adapter.ts";
import { createLiveConnections } from "../../../src/connections/live.ts";
import { addLiveGroup, type LiveGroups } from "../../../src/resources/live_groups.ts";
import type { ProgramContext } from "../../../src/reload/context.ts";
import type { Link } from "../../../src/reload/handover.ts";
import type { HandoverData } from "../../../src/protocol/reload.ts";
import { createClock } from "../../support/clock.ts";

/** A connection in the kernel: what the client has sent and no process has read. */
interface Kernel {
  readonly number: number;
  unread: string;
  /** All that the client has sent. */
  sent: string;
}

/** A socket of node:net for a connection. */
class FakeSocket extends EventEmitter {
  readonly kernel: Kernel;
  isReading = true;
  destroyed = false;
  readableEnded = false;
  writableEnded = false;
  readableEncoding = null;
  writableLength = 0;
  #buffer: Buffer[] = [];
  constructor(kernel: Kernel) {
    super();
    this.kernel = kernel;
  }
  get readableLength(): number {
    return this.#buffer.reduce((sum, { length }) => sum + length, 0);
  }
  read(): Buffer | null {
    return this.#buffer.shift() ?? null;
  }
  unshift(bytes: Uint8Array): void {
    this.#buffer.unshift(Buffer.from(bytes));
  }
  destroy(): void {
    this.destroyed = true;
    this.emit("close");
  }
  /** Reads some bytes from the kernel, into the buffer. */
  receive(count: number): void {
    if (this.destroyed || !this.isReading || this.kernel.unread === "") return;
    this.#buffer.push(Buffer.from(this.kernel.unread.slice(0, count)));
    this.kernel.unread = this.kernel.unread.slice(count);
  }
  /** Gives the buffer to the application. */
  flow(): void {
    if (this.destroyed || this.listenerCount("data") === 0) return;
    for (let chunk; (chunk = this.read()) !== null;) this.emit("data", chunk);
  }
}

/** What one process knows. The state is the number of messages of all connections. */
interface Process {
  readonly sockets: FakeSocket[];
  readonly sessions: Map<FakeSocket, { count: number; rest: string }>;
  total: number;
  accept(socket: FakeSocket): void;
}

/** The messages that were answered: by connection, with its count and the total. */
type Answers = Map<Kernel, { text: string; count: number; total: number }[]>;

const tick = () => new Promise<void>((resolve) => setImmediate(resolve));

function createScene(connections: number, independent = false) {
  const answers: Answers = new Map();
  const { clock, advance } = createClock();
  const adopted: FakeSocket[] = [];
  const adapter: ConnectionAdapter = {
    window: 2,
    stop: (socket) => void ((socket as unknown as FakeSocket).isReading = false),
    start: (socket) => void ((socket as unknown as FakeSocket).isReading = true),
    handle: (socket) => (socket as unknown as FakeSocket).kernel,
    adopt(kernel) {
      const socket = new FakeSocket(kernel as Kernel);
      socket.isReading = false;
      adopted.push(socket);
      return Promise.resolve(socket as unknown as LiveSocket);
    },
    serveIdle: () => assert.fail("there are no idle connections here"),
  };

  function createProcess() {
    const live: LiveGroups = new Map();
    const process: Process = { sockets: [], sessions: new Map(), total: 0, accept: () => {} };
    const token = { signal: new AbortController().signal };
    const program = {
      clock,
      live,
      token,
      options: {},
      emit() {},
      warn: assert.fail,
    } as unknown as ProgramContext;
    const group = addLiveGroup(live, "lines", {
      independent,
      accept(given, session) {
        const socket = given as FakeSocket;
        const own = session as { count: number; rest: string } | undefined ??
          { count: 0, rest: "" };
        process.sessions.set(socket, own);
        if (!process.sockets.includes(socket)) process.sockets.push(socket);
        socket.on("data", (chunk) => {
          const lines = (own.rest + chunk).split("\n");
          own.rest = lines.pop() as string;
          for (const text of lines) {
            answers.get(socket.kernel)?.push({ text, count: ++own.count, total: ++process.total });
          }
        });
      },
      release(given) {
        const session = process.sessions.get(given as FakeSocket);
        process.sessions.delete(given as FakeSocket);
        return session;
      },
    });
    process.accept = (socket) => group.accept(socket as unknown as LiveSocket);
    return { process, handover: createLiveConnections(adapter, program, undefined) };
  }

  const old = createProcess();
  const next = createProcess();
  const kernels = Array.from(
    { length: connections },
    (_, number) => ({ number, unread: "", sent: "" }),
  );
  for (const kernel of kernels) {
    answers.set(kernel, []);
    old.process.accept(new FakeSocket(kernel));
  }
  return { old, next, kernels, answers, advance };
}

/**
 * A channel between two handovers. A message waits until it is delivered; one may lose its handle,
 * as on Deno.
 */
function createLinks() {
  const waiting: (() => void)[] = [];
  const receivers:
    (((data: HandoverData, handle?: unknown) => void | Promise<void>) | undefined)[] = [];
  let isClosed = false;
  let loses = false;
  const link = (side: 0 | 1): Link => ({
    sendsHandles: true,
    descriptors: undefined,
    send(data, handle) {
      if (isClosed) return Promise.reject(new Error("closed"));
      const lost = handle !== undefined && loses;
      if (lost) loses = false;
      waiting.push(() => receivers[1 - side]?.(structuredClone(data), lost ? undefined : handle));
      return Promise.resolve();
    },
    onData: (receive) => void (receivers[side] = receive),
  });
  return {
    old: link(0),
    next: link(1),
    deliver: () => !isClosed && waiting.shift()?.(),
    lose: () => void (loses = true),
    close: () => void (isClosed = true),
  };
}

type Step =
  | { do: "send"; connection: number; text: string }
  | { do: "receive"; connection: number; count: number }
  | { do: "flow" | "deliver" | "time" | "go on" | "lose" | "connect" | "fail" };

const steps = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant("send" as const),
        connection: fc.nat(2),
        text: fc.stringMatching(/^[a-c\n]{1,6}$/),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant("receive" as const),
        connection: fc.nat(2),
        count: fc.integer({ min: 1, max: 5 }),
      }),
    },
    {
      weight: 8,
      arbitrary: fc.record({ do: fc.constantFrom("flow", "deliver", "time", "go on") }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("lose", "connect", "fail", "fail") }) },
  ),
  { minLength: 10, maxLength: 80, size: "max" },
) as fc.Arbitrary<Step[]>;

test("no byte is lost or doubled, and the state has all that was answered, whenever the reload begins, goes on or fails", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (steps) => {
      const { old, next, kernels, answers, advance } = createScene(3);
      const links = createLinks();
      const failed = new AbortController();
      const reload = {
        signal: failed.signal,
        generation: 1,
        pid: 2,
        link: links.old,
        disown: () => Promise.resolve(false),
      };
      const side = old.handover.outgoing?.(reload);
      const arrival = next.handover.incoming?.({ link: links.next, offered: Promise.resolve() });
      side?.offer?.();

      let hasFailed = false;
      let retiring: Promise<void> | undefined;
      /** The steps of the reload, one after the other; the promise of the one that is under way. */
      let busy: Promise<unknown> | undefined;
      const reloadSteps = [
        () => side?.commit?.(),
        () => void (next.process.total = old.process.total), // The state.
        () => arrival?.takeOver?.("handed over"),
        () => side?.onProbation?.(),
        () => retiring = side?.beforeRetire?.(new AbortController().signal) as Promise<void>,
        () => arrival?.over?.("handed over"),
      ];
      function goOn(): void {
        if (busy !== undefined || hasFailed) return;
        const step = reloadSteps.shift();
        busy = Promise.resolve(step?.()).catch(() => {}).then(() => busy = undefined);
      }
      async function fail(): Promise<void> {
        if (hasFailed || retiring !== undefined) return;
        hasFailed = true;
        links.close();
        failed.abort(new Error("the new process died"));
        for (const socket of next.process.sockets) socket.destroyed = true;
        await side?.rollback?.(new Error("the new process died") as never);
      }
      const sockets = () => [...old.process.sockets, ...next.process.sockets];

      async function take(step: Step): Promise<void> {
        if (step.do === "send") {
          const kernel = kernels[step.connection] as Kernel;
          kernel.unread += step.text;
          kernel.sent += step.text;
        }
        if (step.do === "receive") {
          for (const socket of sockets()) {
            if (socket.kernel.number === step.connection) socket.receive(step.count);
          }
        }
        if (step.do === "flow") { for (const socket of sockets()) socket.flow(); }
        if (step.do === "deliver") links.deliver();
        if (step.do === "time") advance();
        if (step.do === "go on") goOn();
        if (step.do === "lose") links.lose();
        if (step.do === "fail") await fail();
        if (step.do === "connect") {
          const kernel = { number: kernels.length, unread: "first\n", sent: "first\n" };
          kernels.push(kernel);
          answers.set(kernel, []);
          (retiring === undefined ? old : next).process.accept(new FakeSocket(kernel));
        }
        await tick();
      }

      for (const step of steps) await take(step);
      // Then everything goes on to its end.
      for (let i = 0; i < 60; i++) {
        goOn();
        for (const { number } of kernels) {
          await take({ do: "receive", connection: number, count: 1_000 });
        }
        for (const what of ["deliver", "deliver", "deliver", "deliver", "flow", "time"] as const) {
          await take({ do: what });
        }
      }
      assert.ok(hasFailed || reloadSteps.length === 0, "the reload is over");

      const lost = new Set(hasFailed ? next.process.sockets.map(({ kernel }) => kernel) : []);
      for (const kernel of kernels) {
        if (lost.has(kernel)) continue; // It died with the new process.
        const lines = kernel.sent.split("\n").slice(0, -1);
        const got = answers.get(kernel) ?? [];
        // One that was sent, and lost on its way again and again, is closed in the end.
        if (sockets().every((socket) => socket.kernel !== kernel || socket.destroyed)) {
          lines.length = Math.min(lines.length, got.length);
        }
        assert.deepEqual(got.map(({ text }) => text), lines, `connection ${kernel.number}`);
        assert.deepEqual(
          got.map(({ count }) => count),
          lines.map((_, i) => i + 1),
          "its session went along",
        );
      }
      // So much time may pass between two messages that the old process gives up, and goes on with
      // a connection itself.
      if (hasFailed || old.process.sockets.some(({ destroyed }) => !destroyed)) return;
      const totals = [...answers.values()].flat().map(({ total }) => total).sort((a, b) => a - b);
      assert.deepEqual(totals, totals.map((_, i) => i + 1), "each is in the state once");
    }),
    { numRuns: 300 },
  );
});

/** Takes all steps of a reload, with a probation that is over as soon as it has begun. */
function reloadAtOnce(
  { handover }: ReturnType<typeof createScene>["old"],
  links: ReturnType<typeof createLinks>,
): { readonly run: Promise<void>; isOver: boolean } {
  const { signal } = new AbortController();
  const disown = () => Promise.resolve(false);
  const side = handover.outgoing?.({ signal, generation: 1, pid: 2, link: links.old, disown });
  const run = (async () => {
    side?.offer?.();
    await side?.commit?.();
    side?.onProbation?.();
    await side?.beforeRetire?.(signal);
  })();
  const over = { run, isOver: false };
  run.then(() => over.isOver = true);
  return over;
}

test("a new process of an earlier version takes no connection: all are served by the old one", async () => {
  const { old, kernels, answers, advance } = createScene(3);
  const links = createLinks();
  const over = reloadAtOnce(old, links);
  while (!over.isOver) {
    await tick();
    links.deliver();
    advance();
  }
  await over.run;
  for (const kernel of kernels) kernel.unread = "line\n";
  for (const socket of old.process.sockets) {
    socket.receive(100);
    socket.flow();
  }
  assert.deepEqual([...answers.values()].flat().map(({ text }) => text), ["line", "line", "line"]);
});

test("an independent connection that is busy when it is asked goes on meanwhile, and moves in the end", async () => {
  const { old, next, advance } = createScene(7, true);
  const links = createLinks();
  const busy = old.process.sockets[0] as FakeSocket;
  busy.writableLength = 1;
  next.handover.incoming?.({ link: links.next, offered: Promise.resolve() });
  const over = reloadAtOnce(old, links);
  while (!over.isOver) {
    for (let i = 0; i < 10; i++) {
      await tick();
      links.deliver();
    }
    if (next.process.sockets.length >= 2 && busy.writableLength > 0) {
      assert.ok(busy.isReading, "it is read from meanwhile");
    }
    if (next.process.sockets.length >= 6) busy.writableLength = 0;
    advance();
  }
  await over.run;
  assert.equal(next.process.sockets.length, 7);
});

/**
 * What may happen to a reload while WebSockets move. Each client asks all the time, and knows from
 * the answers whether one of its messages was lost or taken twice; one whose connection has ended
 * makes another. At the end all are answered, and the program can be reloaded.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { WebSocket } from "ws";
import type { Behaviour } from "../fixtures/faulty_web_sockets.ts";
import { cleanUp } from "../support/clean_up.ts";
import { leaveDescriptors, setDescriptors } from "../support/limits.ts";
import { isAlive, stateOf } from "../support/proc.ts";
import { fixture, type Program, type Report, startProgram } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const CLIENTS = 40;
/** In the middle of those that move. */
const MIDDLE = CLIENTS / 2;
/** How many questions a client has under way. */
const WINDOW = 3;

class Client {
  /** All answers. */
  answers = 0;
  /** How many connections have ended. */
  ends = 0;
  readonly errors: string[] = [];
  readonly #port: number;
  #socket: WebSocket | undefined;
  #isOver = false;

  constructor(t: TestContext, port: number) {
    this.#port = port;
    cleanUp(t, () => {
      this.#isOver = true;
      this.#socket?.terminate();
    });
    this.#connect();
  }

  #connect(): void {
    const socket = this.#socket = new WebSocket(`ws://127.0.0.1:${this.#port}/`);
    let asked = 0;
    let answered = 0;
    const ask = () => socket.readyState === WebSocket.OPEN && socket.send(`question-${++asked}`);
    socket.on("open", () => {
      for (let i = 0; i < WINDOW; i++) ask();
    });
    socket.on("message", (data) => {
      const text = String(data);
      if (text !== `${++answered} question-${answered}`) {
        this.errors.push(`answer ${answered} is: ${text}`);
      }
      this.answers++;
      setTimeout(ask, 5);
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.ends++;
      // A program whose processes are both stopped or gone answers nobody for a moment.
      if (!this.#isOver) setTimeout(() => this.#isOver || this.#connect(), 20);
    });
  }
}

interface Scene {
  readonly program: Program;
  readonly first: Report;
  readonly clients: readonly Client[];
}

interface Fault {
  readonly name: string;
  readonly behaviour: Behaviour;
  /** Whether all WebSockets live on. */
  readonly losesNone?: boolean;
  /** How many descriptors are left to the old process. */
  readonly leaves?: number;
  /** What happens besides. */
  more?(scene: Scene): Promise<void>;
}

/** The process that gets the signal goes on after so many milliseconds. */
function goesOn(milliseconds: number): Fault["more"] {
  return async ({ program }) => {
    const { to } = await program.report("fault");
    await until("the process to be stopped", () => stateOf(to) === "T");
    await delay(milliseconds);
    program.signal(to, "SIGCONT");
  };
}

const faults: readonly Fault[] = [
  { name: "new: killed", behaviour: { at: "accept", nth: MIDDLE, to: "new", signal: "SIGKILL" } },
  {
    name: "new: stopped for a moment",
    behaviour: { at: "accept", nth: MIDDLE, to: "new", signal: "SIGSTOP" },
    more: goesOn(700),
  },
  {
    name: "new: stopped for two seconds, before it has taken any",
    behaviour: {},
    losesNone: true,
    async more({ program }) {
      const { pid } = await program.report("in-charge", { generation: 1 });
      program.signal(pid, "SIGSTOP");
      await delay(2_000);
      program.signal(pid, "SIGCONT");
    },
  },
  {
    name: "new: stopped for ever",
    behaviour: { at: "accept", nth: MIDDLE, to: "new", signal: "SIGSTOP" },
  },
  {
    name: "new: killed when the old one lets go",
    behaviour: { at: "release", nth: MIDDLE, to: "new", signal: "SIGKILL" },
  },
  {
    name: "new: stopped when the old one lets go",
    behaviour: { at: "release", nth: MIDDLE, to: "new", signal: "SIGSTOP" },
    losesNone: true,
    more: goesOn(700),
  },
  { name: "old: killed", behaviour: { at: "release", nth: MIDDLE, to: "old", signal: "SIGKILL" } },
  {
    name: "old: stopped for a moment",
    behaviour: { at: "release", nth: MIDDLE, to: "old", signal: "SIGSTOP" },
    losesNone: true,
    more: goesOn(700),
  },
  {
    name: "old: killed when the new one has taken some",
    behaviour: { at: "accept", nth: MIDDLE, to: "old", signal: "SIGKILL" },
  },
  {
    name: "old: stopped when the new one has taken some",
    behaviour: { at: "accept", nth: MIDDLE, to: "old", signal: "SIGSTOP" },
    losesNone: true,
    more: goesOn(700),
  },
  // Some move; the others are closed, and there is room for their clients to come back.
  { name: "new: few descriptors", behaviour: { descriptors: 2 * CLIENTS } },
  { name: "old: few descriptors", behaviour: {}, leaves: MIDDLE },
];

/** Whose WebSockets they are. */
const kindsOf = ({ kind }: Runtime) => kind === "node" ? ["ws"] as const : ["native"] as const;

async function runFault(
  t: TestContext,
  runtime: Runtime,
  kind: "ws" | "native",
  fault: Fault,
  isIndependent: boolean,
): Promise<void> {
  const env = {
    ...(kind === "native" && { NATIVE: "1" }),
    ...(isIndependent && { INDEPENDENT: "1" }),
  };
  const program = startProgram(t, runtime, {
    script: fixture("faulty_web_sockets.ts"),
    env,
    behaviour: JSON.stringify(fault.behaviour),
  });
  const first = await program.report("serving");
  const port = first.port as number;
  const clients = Array.from({ length: CLIENTS }, () => new Client(t, port));
  const answeredAgain = async (what: string, more: number) => {
    const before = clients.map(({ answers }) => answers);
    await until(
      what,
      () => clients.every(({ answers }, i) => answers >= (before[i] as number) + more),
    );
  };
  await answeredAgain("all clients to be answered", 2 * WINDOW);
  if (fault.leaves !== undefined) leaveDescriptors(first.pid, fault.leaves);
  program.signal(first);
  await fault.more?.({ program, first, clients });
  const outcome = await program.report(
    "",
    ({ type, pid, predecessor }) =>
      type === "reload-end" || (type === "reload-fail" && pid === first.pid) ||
      (type === "in-charge" && predecessor === "gone") ||
      (type === "in-charge" && !isAlive(first.pid)),
  );
  const survivor = await until("one process", () => {
    const alive = program.pids().filter(isAlive);
    return alive.length === 1 && alive[0];
  });
  setDescriptors(survivor, 1024); // Which cannot have so many clients else.
  await answeredAgain("all clients to be answered afterwards", 4 * WINDOW);
  const ended = clients.filter(({ ends }) => ends > 0).length;
  t.diagnostic(`${outcome.type}, ${ended} of ${CLIENTS} WebSockets ended`);
  if (fault.losesNone) assert.equal(ended, 0);
  assert.equal(
    await (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } })).text(),
    `pid ${survivor}`,
  );

  program.behave("{}");
  const before = clients.map(({ ends }) => ends);
  const from = program.reports.length;
  program.signal(survivor);
  const { moved, left } = await program.report("connections-move", { pid: survivor }, from);
  assert.ok(moved >= CLIENTS, `${moved} have moved, ${left} are left`);
  await until("the old process to be gone", () => !isAlive(survivor));
  await answeredAgain("all clients to be answered by the next generation", 2 * WINDOW);
  assert.deepEqual(clients.map(({ ends }) => ends), before);
  assert.deepEqual(clients.flatMap(({ errors }) => errors), []);
}

for (const runtime of oneOfEachKind) {
  for (const kind of kindsOf(runtime)) {
    for (const isIndependent of [false, true]) {
      // Those that move by themselves differ in what is lost with a process.
      for (
        const fault of faults.filter(({ name }) => !isIndependent || !name.includes("stopped"))
      ) {
        const title = `${runtime.name}, WebSockets of ${kind === "ws" ? "ws" : "its own"}${
          isIndependent ? ", independent" : ""
        }`;
        test(`${title}: ${fault.name}`, (t) => runFault(t, runtime, kind, fault, isIndependent));
      }
    }
  }
}

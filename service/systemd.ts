/** Tells systemd what happens; sd_notify(3), systemd.service(5). */
import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/error.ts";
import type { Link, Participant } from "../core/participant.ts";
import { atMost, pause } from "../core/pause.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { CancellationToken } from "../core/token.ts";

/** The program of systemd's that sends messages: no runtime can send to a socket of datagrams by itself. */
const NOTIFY = "systemd-notify";

/** Milliseconds between two looks at who the parent is. */
const LOOK = 1;

/** Milliseconds that a new process may take to notice its new parent. */
const PATIENCE = 5_000;

/** What it takes to tell systemd. */
export interface SystemdOptions {
  adapter: ServiceAdapter;
  clock: Clock;
  pid: number;
  token: CancellationToken;
  hasPredecessor: boolean;
  /** Is `reload-self run` the main process of the service? */
  isSupervised: boolean;
  warn(line: string): void;
}

/** The participant, and the variables that a new process must not inherit. */
export interface Systemd {
  readonly participant: Participant;
  readonly env: Readonly<Record<string, undefined>>;
}

/** The participant where systemd wants to be told, or `undefined`. */
export function createSystemd(options: SystemdOptions): Systemd | undefined {
  const { adapter, clock, pid, token, hasPredecessor, isSupervised, warn } = options;
  if (!adapter.variable("NOTIFY_SOCKET")) return undefined;
  const watchdogPid = adapter.variable("WATCHDOG_PID");
  // The first process knows that it is meant, and takes the variable out of the environment of the next.
  const isWatched = watchdogPid === undefined
    ? hasPredecessor || !!adapter.variable("WATCHDOG_USEC")
    : watchdogPid === String(pid);
  const watchdog = isWatched ? Number(adapter.variable("WATCHDOG_USEC") ?? 0) / 1000 : 0;

  let warned = false;
  let last: Promise<void> = Promise.resolve();
  let stopWatchdog = () => {};
  let successor = pid;
  let toSuccessor: Link | undefined;
  let adopted = Promise.withResolvers<void>();

  /** Messages arrive in the order in which they are sent: one program after the other. Never rejects. */
  function notify(...variables: string[]): Promise<void> {
    return last = last.then(async () => {
      try {
        await adapter.execute(NOTIFY, variables);
      } catch (error) {
        // At a stop systemd ends every process of the service, and with it, now and then, the one that is about to tell it, also twice:
        // it goes on until it finds none that is new. Whoever else ends this process has not ended that one.
        if (token.isCancelled) return await adapter.execute(NOTIFY, variables).catch(() => {});
        if (!warned) warn(`systemd cannot be told (${variables.join(" ")}): ${describeError(error)}`);
        warned = true;
      }
    });
  }

  function watch(): void {
    if (!(watchdog > 0)) return;
    stopWatchdog();
    let sending = false;
    // At half of the time, as sd_watchdog_enabled(3) recommends.
    stopWatchdog = adapter.every(watchdog / 2, async () => {
      if (sending) return;
      sending = true;
      await notify("WATCHDOG=1");
      sending = false;
    });
  }

  token.signal.addEventListener("abort", () => {
    stopWatchdog();
    const { reason } = token.signal;
    if (reason.kind !== "shutdown") return;
    const why = reason.signal === undefined ? "" : ` (${reason.signal})`;
    token.track(notify("STOPPING=1", `STATUS=Shutting down${why}`), { name: "telling systemd" });
  });

  /**
   * CLOCK_MONOTONIC as Type=notify-reload wants it, from the clock that also counts what the machine slept: systemd asks only that it
   * is not earlier than the reload. /proc/uptime has hundredths of a second, cut off.
   */
  function now(): string[] {
    try {
      const seconds = Number(adapter.files().read("/proc/uptime")?.split(" ")[0]);
      return seconds > 0 ? [`MONOTONIC_USEC=${Math.round(seconds * 1e6) + 10_000}`] : [];
    } catch {
      return []; // Deno lets only a program with all permissions look.
    }
  }

  const main = (pid: number) => isSupervised ? [] : [`MAINPID=${pid}`];
  const serving = (pid: number) => ["READY=1", `STATUS=Serving as process ${pid}`];

  const participant: Participant = {
    name: "systemd",
    ready() {
      notify(...serving(pid));
      watch();
    },
    inherit(link) {
      const parent = adapter.parent();
      link.onData(async (data) => {
        if ((data as { disowned?: unknown }).disowned !== true) return;
        while (adapter.parent() === parent) await pause(clock, LOOK);
        await link.send({ adopted: true });
      });
    },
    offer(link) {
      toSuccessor = link;
      link.onData((data) => {
        if ((data as { adopted?: unknown }).adopted === true) adopted.resolve();
      });
    },
    succeed(predecessor) {
      // It was told by the predecessor otherwise.
      if (predecessor === "gone") notify(...main(pid), ...serving(pid));
      watch();
    },
    prepare({ generation }) {
      // Not waited for: what is told later waits for it. Type=notify-reload has to hear of it also when nothing can be started.
      notify("RELOADING=1", ...now(), `STATUS=Reloading: starting generation ${generation}`);
    },
    // Not before: systemd would take the end of a main process on probation for the end of the service.
    async retire(_, context) {
      successor = context.pid as number;
      // systemd takes for the main process only what is its child, and stops nothing else gracefully.
      if (!isSupervised && await context.disown()) {
        adopted = Promise.withResolvers();
        await toSuccessor?.send({ disowned: true });
        await atMost(clock, PATIENCE, adopted.promise);
      } else if (!isSupervised) {
        warn(
          `process ${context.pid} is no child of PID 1 while this one lives: until then systemd does not stop it gracefully. ` +
            "/bin/sh is needed for that; Deno wants --allow-run=/bin/sh",
        );
      }
      await notify(...main(successor), ...serving(successor));
    },
    async rollback(reason) {
      // systemctl reload waits for READY=1, also when the reload failed.
      const [line = ""] = reason.message.split("\n");
      await notify(...main(pid), "READY=1", `STATUS=Serving as process ${pid}; the last reload failed: ${line}`);
    },
  };
  return { participant, env: isWatched ? { WATCHDOG_PID: undefined } : {} };
}

/** Reports the state of the service to systemd; sd_notify(3), systemd.service(5). */
import { attempt } from "../core/attempt.ts";
import { describeError } from "../core/describe_error.ts";
import { pause } from "../core/pause.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import type { ProgramContext } from "../reload/context.ts";
import { ask, confirm } from "../reload/confirm.ts";
import type {
  Handover,
  IncomingHandover,
  IncomingReload,
  OutgoingHandover,
  OutgoingReload,
} from "../reload/handover.ts";

/**
 * systemd's own program that sends messages. Node can neither send datagrams to a unix socket nor
 * call the C library.
 */
const NOTIFY = "systemd-notify";
/** Milliseconds between two checks whether PID 1 is the parent. */
const PARENT_CHECK_MS = 1;
/** How long a new process may take to notice its new parent. */
const ADOPTION_TIMEOUT_MS = 5_000;

/** The handover, and the variables that a new process must not inherit. */
export interface Systemd {
  readonly handover: Handover;
  readonly env: Readonly<Record<string, undefined>>;
}

/**
 * Reports to systemd, or is `undefined` where systemd did not ask for it.
 *
 * @param isSupervised Whether `reload-self run` is the main process of the service.
 */
export function createSystemd(
  adapter: ServiceAdapter,
  program: ProgramContext,
  isSupervised: boolean,
): Systemd | undefined {
  const { clock, pid, token } = program;
  if (!adapter.variable("NOTIFY_SOCKET")) return undefined;
  const notify = createNotifier(adapter, program);
  const watchdog = createWatchdog(adapter, program, () => notify("WATCHDOG=1"));
  whenCancelled(token, (reason) => {
    watchdog?.stop();
    if (reason.kind !== "shutdown") return;
    const why = reason.signal === undefined ? "" : ` (${reason.signal})`;
    token.track(notify("STOPPING=1", `STATUS=Shutting down${why}`), {
      name: "the report to systemd",
    });
  });

  // The supervisor stays the main process.
  const main = (pid: number) => isSupervised ? [] : [`MAINPID=${pid}`];
  const outgoing = (reload: OutgoingReload): OutgoingHandover => ({
    // Not awaited: later messages wait for it. Type=notify-reload needs it also when nothing can be
    // started.
    prepare: () => void notify("RELOADING=1", ...monotonicTime(adapter), reloading(reload)),
    // Not earlier: systemd would take the end of a main process on probation for the end of the
    // service.
    async retire() {
      if (!isSupervised) await disown(reload, program);
      const successor = reload.pid as number;
      await notify(...main(successor), ...serving(successor));
    },
    // systemctl reload waits for READY=1, also when the reload failed.
    rollback: (reason) => notify(...main(pid), ...servingAgain(pid, reason)),
  });

  function incoming({ link }: IncomingReload): IncomingHandover {
    const parent = adapter.parent();
    confirm(link, "disowned", "adopted", async () => {
      while (adapter.parent() === parent) await pause(clock, PARENT_CHECK_MS);
    });
    return {
      takeOver: () => watchdog?.start(),
      over(predecessor) {
        // A predecessor that retires has reported its successor.
        if (predecessor === "gone") notify(...main(pid), ...serving(pid));
      },
    };
  }

  function ready(): void {
    notify(...serving(pid));
    watchdog?.start();
  }

  return {
    handover: { name: "systemd", outgoing, incoming, ready },
    env: watchdog ? { WATCHDOG_PID: undefined } : {},
  };
}

const reloading = ({ generation }: OutgoingReload) =>
  `STATUS=Reloading: starting generation ${generation}`;

const serving = (pid: number) => ["READY=1", `STATUS=Serving as process ${pid}`];

function servingAgain(pid: number, { message }: Error): readonly string[] {
  const [line = ""] = message.split("\n");
  return ["READY=1", `STATUS=Serving as process ${pid}; the last reload failed: ${line}`];
}

/**
 * Makes PID 1 the parent of the new process: systemd accepts only its own child as the main
 * process, and stops nothing else gracefully.
 */
async function disown(reload: OutgoingReload, { clock, warn }: ProgramContext): Promise<void> {
  if (await reload.disown()) {
    return await ask(reload.link, clock, "disowned", "adopted", ADOPTION_TIMEOUT_MS);
  }
  warn(
    `process ${reload.pid} is no child of PID 1 while this one lives: until then systemd does not stop it gracefully. ` +
      "/bin/sh is needed for that; Deno wants --allow-run=/bin/sh",
  );
}

/** What tells systemd that this process is alive. */
interface Watchdog {
  start(): void;
  stop(): void;
}

/**
 * The watchdog of this process; `undefined` where systemd watches none, or another one.
 *
 * @param notify Tells systemd once.
 */
function createWatchdog(
  { variable, every }: ServiceAdapter,
  { hasPredecessor, pid }: ProgramContext,
  notify: () => Promise<void>,
): Watchdog | undefined {
  const milliseconds = Number(variable("WATCHDOG_USEC") ?? 0) / 1000;
  const named = variable("WATCHDOG_PID");
  // The first process is named by the variable, and removes it from the environment of the next.
  if (named === undefined ? !hasPredecessor && !variable("WATCHDOG_USEC") : named !== String(pid)) {
    return undefined;
  }
  let stop = () => {};
  return {
    start() {
      if (!(milliseconds > 0)) return;
      stop();
      let isSending = false;
      // At half of the time, as sd_watchdog_enabled(3) recommends.
      stop = every(milliseconds / 2, async () => {
        if (isSending) return;
        isSending = true;
        await notify();
        isSending = false;
      });
    },
    stop: () => stop(),
  };
}

/**
 * Sends messages in order, each by a process of its own. Never rejects; the first failure is
 * reported.
 */
function createNotifier(
  adapter: ServiceAdapter,
  { token, warn }: ProgramContext,
): (...variables: string[]) => Promise<void> {
  let isReported = false;
  let last: Promise<void> = Promise.resolve();
  return (...variables) =>
    last = last.then(async () => {
      try {
        await adapter.execute(NOTIFY, variables);
      } catch (error) {
        // At a stop systemd signals every process of the service, now and then also the one that
        // sends a message. It signals once more for processes that are new.
        if (token.isCancelled) return await adapter.execute(NOTIFY, variables).catch(() => {});
        if (!isReported) {
          warn(`systemd cannot be notified (${variables.join(" ")}): ${describeError(error)}`);
        }
        isReported = true;
      }
    });
}

/**
 * CLOCK_MONOTONIC, which Type=notify-reload wants, from the clock that also counts the time in
 * which the machine slept: systemd only requires that it is not earlier than the reload.
 * /proc/uptime has hundredths of a second, rounded down.
 */
function monotonicTime(adapter: ServiceAdapter): string[] {
  // Deno lets only a program with all permissions read it.
  const seconds = Number(attempt(() => adapter.files().read("/proc/uptime"))?.split(" ")[0]);
  return seconds > 0 ? [`MONOTONIC_USEC=${Math.round(seconds * 1e6) + 10_000}`] : [];
}

/** `reload-self status`. */
import type { Status } from "../src/protocol/status.ts";

function age(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  const parts = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]] as const;
  const index = Math.max(0, parts.findIndex(([size]) => seconds >= size));
  let rest = seconds;
  return (seconds === 0 ? [[1, "s"] as const] : parts.slice(index, index + 2)).map(
    ([size, unit]) => {
      const count = Math.floor(rest / size);
      rest -= count * size;
      return `${count} ${unit}`;
    },
  ).join(" ");
}

/** A status for people, a line for each fact. */
export function describeStatus(status: Status, now: number): string[] {
  const { pid, generation, runtime, since, state, signal, reloads, last } = status;
  const facts: [string, string][] = [
    ["pid", String(pid)],
    ["generation", String(generation)],
    ["runtime", runtime],
    ["state", state],
    ["since", `${new Date(since).toISOString().replace(/\.\d+Z$/, "Z")} (${age(now - since)})`],
    [
      "reload",
      signal === "SIGBREAK"
        ? `CTRL_BREAK, or reload-self reload ${pid}`
        : signal === undefined
        ? "token.reload() only"
        : `kill -${signal.replace(/^SIG/, "")} ${pid}`,
    ],
  ];
  if (last !== undefined) {
    const how = last.pid === undefined
      ? `failed after ${last.milliseconds} ms: ${last.error}`
      : `${last.milliseconds} ms: pid ${last.pid} is in charge`;
    facts.push([`last reload`, `no. ${last.number} of ${reloads}, ${how}`]);
  }
  const width = Math.max(...facts.map(([name]) => name.length));
  return facts.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
}

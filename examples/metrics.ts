/**
 * Metrics of reloads, for Prometheus: http://localhost:8000/metrics. What the old process has
 * counted is handed over.
 */
import { createServer } from "node:http";
import process from "node:process";
import { listen } from "../mod.ts";

const metrics = { succeeded: 0, failed: 0, seconds: 0 };
const begun = performance.now();

const token = listen({
  logger: console,
  saveState: () => metrics,
  onEvent(event) {
    switch (event.type) {
      // Only in a process that came from a reload. It is counted here: the old one has handed over
      // already.
      case "in-charge":
        return void token.inheritedState.then((before) => {
          Object.assign(metrics, before);
          metrics.succeeded++;
          metrics.seconds = (performance.now() - begun) / 1000;
        });
      case "reload-fail":
        return void metrics.failed++;
    }
  },
});

function render(): string {
  const lines: [name: string, help: string, type: string, value: number][] = [
    ["reload_self_generation", "Reloads since the program was started.", "gauge", token.generation],
    [
      "reload_self_reloads_succeeded_total",
      "Reloads that put a new process in charge.",
      "counter",
      metrics.succeeded,
    ],
    [
      "reload_self_reloads_failed_total",
      "Reloads that were rolled back.",
      "counter",
      metrics.failed,
    ],
    [
      "reload_self_last_reload_seconds",
      "From the start of this process until it was in charge.",
      "gauge",
      metrics.seconds,
    ],
  ];
  return lines.map(([name, help, type, value]) =>
    `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${name} ${value}\n`
  ).join(
    "",
  );
}

const server = createServer(({ url }, response) => {
  if (url !== "/metrics") return void response.end(`generation ${token.generation}\n`);
  response.setHeader("content-type", "text/plain; version=0.0.4").end(render());
});
await token.bind(server, { port: Number(process.env.PORT ?? 8000) });

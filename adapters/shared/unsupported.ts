import type { StartAdapter } from "../../src/core/adapter.ts";
import { ReloadError } from "../../src/core/error.ts";
import { clock } from "./clock.ts";

/** The adapter for platforms without signals and processes: serverless platforms, browsers. */
export function createUnsupportedAdapter(runtime: string): StartAdapter {
  function unsupported(): never {
    throw new ReloadError("unsupported", `there are no signals and no processes here (${runtime})`);
  }
  const adapter = {
    ...clock,
    runtime,
    pid: 0,
    canReload: false,
    signals: {},
    reloadSignals: [],
    shutdownSignals: [],
    onSignal: unsupported,
    isSuccessor: false,
    predecessor: () => undefined,
    exit: unsupported,
  };
  return { ...adapter, complete: () => Promise.resolve({ ...adapter, start: unsupported }) };
}

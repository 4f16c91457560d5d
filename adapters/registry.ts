import type { StartAdapter } from "../core/adapter.ts";
import type { ListenOptions } from "../core/options.ts";
import type { Token } from "../core/token.ts";
import { detectAdapter } from "./detect.ts";

/** The state of the process, shared by all copies of this module: two copies must not both answer a signal. */
export interface Registry {
  readonly adapter: StartAdapter;
  listening?: {
    readonly token: Token;
    readonly options: ListenOptions;
    /** Resolves when the socket of `token.path()` is there. */
    placed(path: string): Promise<void>;
  };
}

const KEY = Symbol.for("@js0/reload-self");
const globals = globalThis as { [KEY]?: Registry };

/** The registry of this process. */
export const registry: Registry = globals[KEY] ??= { adapter: detectAdapter() };

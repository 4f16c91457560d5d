import type { StartAdapter } from "../src/core/adapter.ts";
import { ReloadError } from "../src/core/error.ts";
import type { ListenOptions } from "../src/core/options.ts";
import type { Token } from "../src/core/token.ts";
import { detectAdapter } from "./detect.ts";

/** Which members a registry has. Raised when they change. */
const LAYOUT = 4;

/** What the token does not show of a program. */
export interface Inside {
  /** Whether a preload has begun the program: then the options are those of the environment. */
  isAuto: boolean;
  /** Told of options that came too late. */
  ignored?(names: readonly string[]): void;
  /** A signal does from now on what it does without this library. */
  release(signal: string): void;
  /** Resolves when no reload is under way, and the other processes know of a shutdown. */
  settled(): Promise<unknown>;
  /** Reports that a reload may lose something. */
  warn?(message: string): void;
}

/**
 * The state of the process, shared by all copies of this module: two copies must not both answer a
 * signal.
 */
export interface Registry {
  readonly layout: number;
  readonly adapter: StartAdapter;
  listening?: {
    readonly token: Token;
    readonly options: ListenOptions;
    /** What a preload needs that has begun the program; see auto.ts. */
    readonly inside: Inside;
  };
}

const KEY = Symbol.for("@js0/reload-self");
const globals = globalThis as { [KEY]?: Registry };

/**
 * The registry of this process.
 *
 * @throws {ReloadError} When another version of this library has made one that this version does
 * not know.
 */
export const registry: Registry = globals[KEY] ??= { layout: LAYOUT, adapter: detectAdapter() };
if (registry.layout !== LAYOUT) {
  throw new ReloadError(
    "unsupported",
    "two versions of @js0/reload-self are loaded in this process: keep one; `npm ls @js0/reload-self` shows who depends on which",
  );
}

/** Options of several commands, and what their values have to be. */
import type { SocketRequest } from "../adapters/tools/machine.ts";
import { describeError } from "../src/core/describe_error.ts";
import { isWebAddress } from "../src/core/options.ts";
import type { CheckOrder } from "../src/core/service_adapter.ts";
import { MEMORY_PAUSE_MS } from "../src/triggers/memory.ts";
import { LONGEST_MS } from "../src/core/check.ts";
import { checkSize, parseTime } from "../src/core/units.ts";
import type { Triggers } from "./triggers.ts";

/** An option of a command. */
export interface Option {
  type: "string" | "boolean";
  short?: string;
  /** Whether it may be repeated. */
  multiple?: boolean;
  /** The placeholder of its value in the help. */
  value?: string;
  help: string;
}

/** The values of the options, by their names. */
export type Values = Record<string, string | boolean | (string | boolean)[] | undefined>;

/** How a new version is judged. */
export const CHECK: Record<string, Option> = {
  check: {
    type: "string",
    value: "<address>",
    help: "a new version has to answer there with 2xx or 3xx, or it is taken back",
  },
  "check-timeout": {
    type: "string",
    value: "<time>",
    help: "how long that may take. Default: 5s",
  },
};

/** What reloads by itself. */
export const TRIGGERS: Record<string, Option> = {
  watch: {
    type: "string",
    multiple: true,
    value: "<path>",
    help: "reload when this file or folder changes. May be repeated",
  },
  "max-memory": {
    type: "string",
    value: "<size>",
    help: "reload when the process grows beyond this, such as 500M",
  },
  "memory-pause": {
    type: "string",
    value: "<time>",
    help: "the least time between two such reloads. Default: 1m",
  },
  every: {
    type: "string",
    value: "<time>",
    help: 'reload so often: 24h, or a pattern of cron such as "0 4 * * *"',
  },
};

/** The value of an option that is a whole number. */
export function wholeNumber(
  name: string,
  value: Values[string],
  least: number,
  most: number,
): number {
  const number = Number(value);
  if (!/^\d+$/.test(String(value)) || number < least || number > most) {
    throw new Failure(2, `--${name} must be a whole number from ${least} to ${most}, not ${value}`);
  }
  return number;
}

/** The value of an option that is a time, in milliseconds. A number without a unit is seconds. */
export function time(name: string, value: Values[string], least = 1): number {
  const text = /^\d+(\.\d+)?$/.test(String(value)) ? `${value}s` : value;
  const milliseconds = Math.round(parseTime(text) ?? NaN);
  if (milliseconds >= least && milliseconds <= LONGEST_MS) return milliseconds;
  throw new Failure(2, `--${name} must be a time such as 500ms, 10s or 2m, not ${value}`);
}

/** The value of an option that is a size, in bytes. */
function size(name: string, value: Values[string]): number {
  if (/\d\s*[kmg]/i.test(String(value))) return usage(checkSize, `--${name}`, value);
  throw new Failure(2, `--${name} must be a size such as 500M or 2G, not ${value}`);
}

/** The check that is asked for. */
export function checkOf({ check, "check-timeout": timeout }: Values): CheckOrder | undefined {
  if (check !== undefined && !isWebAddress(check)) {
    throw new Failure(
      2,
      `--check must be an address such as http://127.0.0.1:8000/health, not ${check}`,
    );
  }
  if (check === undefined && timeout !== undefined) {
    throw new Failure(2, "--check-timeout belongs to --check, which is not there");
  }
  return check === undefined
    ? undefined
    : { url: check, timeout: time("check-timeout", timeout ?? "5s") };
}

function list(value: Values[string]): string[] {
  return [value ?? []].flat().map(String);
}

/** The sockets that are asked for. */
export function socketsOf({ socket }: Values): SocketRequest[] {
  return list(socket).map(socketOf);
}

function socketOf(text: string): SocketRequest {
  const [, host, port = ""] = /^(?:(.+):)?(\d+)$/.exec(text) ?? [];
  if (port === "") {
    throw new Failure(2, `--socket must be a port, or a host, a colon and a port, not ${text}`);
  }
  return { host: host?.replace(/^\[(.*)\]$/, "$1"), port: wholeNumber("socket", port, 1, 65_535) };
}

/** What is to reload by itself; `undefined` where nothing is. */
export function triggersOf(
  { watch, "max-memory": memory, "memory-pause": pause, every }: Values,
): Triggers | undefined {
  if (memory === undefined && pause !== undefined) {
    throw new Failure(2, "--memory-pause belongs to --max-memory, which is not there");
  }
  if (watch === undefined && memory === undefined && every === undefined) return undefined;
  const paths = list(watch);
  if (paths.includes("")) throw new Failure(2, "--watch must be a file or a folder, not empty");
  return {
    watch: paths,
    memory: memory === undefined ? undefined : size("max-memory", memory),
    memoryPause: pause === undefined ? MEMORY_PAUSE_MS : time("memory-pause", pause),
    every: every === undefined ? undefined : String(every),
  };
}

/** Calls a function that throws for an option that is wrong. */
export function usage<A extends unknown[], R>(check: (...args: A) => R, ...args: A): R {
  try {
    return check(...args);
  } catch (error) {
    throw new Failure(2, describeError(error));
  }
}

/** What a module of the user's has thrown: the runtime shows best where. */
export class ModuleError extends Error {
  constructor(cause: unknown) {
    super(undefined, { cause });
  }
}

/** An error for the person at the command line, in one line. */
export class Failure extends Error {
  /** 1: it was tried and failed. 2: a usage error. */
  readonly exitCode: 1 | 2;

  /** The message says what failed, and what to do. */
  constructor(exitCode: 1 | 2, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

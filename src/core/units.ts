/** Times and sizes as people write them. */
import { show } from "./check.ts";

const TIMES: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const SIZES: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/**
 * A number of milliseconds, or a time such as `"30s"` or `"24h"`; `undefined` for anything else.
 */
export function parseTime(value: unknown): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(
    typeof value === "number" ? `${value}ms` : String(value),
  ) ?? [];
  return unit === undefined ? undefined : Number(number) * (TIMES[unit] as number);
}

/** As `parseTime`, and above 0; throws a TypeError that names the option. */
export function checkTime(name: string, value: unknown): number {
  const time = parseTime(value);
  if (!time) {
    throw new TypeError(
      `${name} must be milliseconds, or a time such as "30s" or "24h", not ${show(value)}`,
    );
  }
  return time;
}

/**
 * A number of bytes, or a size such as `"500M"`; throws a TypeError that names the option for
 * anything else.
 */
export function checkSize(name: string, value: unknown): number {
  const [, number = "", unit = ""] = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?$/i.exec(String(value)) ??
    [];
  const bytes = Number(number) * (SIZES[unit.toLowerCase()] as number);
  if (bytes > 0) return bytes;
  throw new TypeError(
    `${name} must be bytes, or a size such as "500M" or "2G", not ${show(value)}`,
  );
}

/** A time for people. */
export function showTime(milliseconds: number): string {
  for (const unit of ["d", "h", "m"]) {
    const size = TIMES[unit] as number;
    if (milliseconds >= size && milliseconds % size === 0) return `${milliseconds / size} ${unit}`;
  }
  return milliseconds >= 1_000 ? `${Math.round(milliseconds / 100) / 10} s` : `${milliseconds} ms`;
}

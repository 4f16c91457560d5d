import process from "node:process";

/**
 * The number in a variable of the environment, or the fallback; also where the environment may not
 * be read: a bare `deno test`.
 */
export function numberOf(variable: string, fallback: number): number {
  try {
    return Number(process.env[variable] ?? fallback);
  } catch {
    return fallback;
  }
}

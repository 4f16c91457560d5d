/**
 * The longest time a timer of the runtimes can wait: 2^31 - 1 milliseconds. A longer one would fire
 * at once.
 */
export const LONGEST_MS: number = 2 ** 31 - 1;

/**
 * Throws a TypeError that names the option unless it is a number of milliseconds that a timer can
 * wait.
 */
export function checkMilliseconds(name: string, value: unknown): asserts value is number {
  if (typeof value !== "number" || !(value > 0 && value <= LONGEST_MS)) {
    throw new TypeError(
      `${name} must be a number of milliseconds above 0 and up to ${LONGEST_MS}, not ${
        show(value)
      }`,
    );
  }
}

/**
 * Throws a TypeError that names what is wrong unless the options are an object with known names
 * only.
 */
export function checkOptions(of: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`${of}: the options must be an object, not ${show(options)}`);
  }
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new TypeError(`${of}: unknown option ${name}; known: ${known.join(", ")}`);
    }
  }
}

/** A value as a person would write it, short. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) {
    return Array.isArray(value) ? "an array" : "an object";
  }
  return String(value);
}

/** How a process ended, as the rest of a sentence. */
export function describeExit(code: number | null, signal: string | null): string {
  return signal === null ? `exited with code ${code}` : `was ended by ${signal}`;
}

/** The message of anything that was thrown. */
export function describeError(error: unknown): string {
  if (error instanceof Error) return error.message === "" ? error.name : error.message;
  try {
    return String(error);
  } catch {
    return "an error without a text";
  }
}

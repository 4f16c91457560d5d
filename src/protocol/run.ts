/** The files of `reload-self run`, in a folder that belongs to one instance of the program. */

/** The file that names the process in charge. */
export const IN_CHARGE = "in-charge";
/** Prefix of the file that a guard keeps while its process lives. The guard's pid follows. */
export const GUARD = "guard.";
/** Prefix of the file in which a guard leaves the exit code of its process. */
export const EXIT = "exit.";
/** Prefix of the file that the first program below a guard makes. */
export const CLAIM = "claim.";

/** The process in charge, and the guard that is its parent. */
export interface InCharge {
  readonly pid: number;
  readonly guard: number;
}

/** Parses the file of the process in charge; `undefined` for anything else. */
export function parseInCharge(text: string): InCharge | undefined {
  const match = /^([1-9]\d{0,9}) ([1-9]\d{0,9})\n$/.exec(text);
  return match === null ? undefined : { pid: Number(match[1]), guard: Number(match[2]) };
}

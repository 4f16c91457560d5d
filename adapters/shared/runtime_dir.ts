/**
 * The folder for the status files of a user's programs, and the output to stderr, which a status
 * shows when a reload has failed.
 */
import { attempt } from "../../src/core/attempt.ts";
import type { ServiceAdapter } from "../../src/core/service_adapter.ts";
import type { Environment } from "./environment.ts";

/** The bytes at the end of stderr that are kept for a status. */
const MAX_OUTPUT = 8_192;

/** The operations on files that this needs. Links are not followed. */
export interface ServiceFiles {
  /**
   * The user of this process; `undefined` where that is not known, or nothing can be done with it.
   */
  uid(): number | undefined;
  /** Makes a folder that only this user may enter; with all above it on Windows. */
  make(path: string): void;
  look(path: string): { isDirectory: boolean; uid: number | null; mode: number | null };
  /**
   * The size of the file to which stderr leads; `undefined` for another kind of file, and where
   * that is not known.
   */
  outputSize(): number | undefined;
  /** Reads that file. Fills the buffer as far as there is something, and returns how far. */
  readOutput(buffer: Uint8Array, from: number): number;
}

/**
 * Where the folder may be, the best first: below the runtime directory of the session, or below the
 * folder for temporary files.
 */
export function folderCandidates(
  runtime: string | undefined,
  temporary: string | undefined,
  uid: number,
): string[] {
  const inTemporary = `${(temporary || "/tmp").replace(/\/+$/, "")}/reload-self-${uid}`;
  return runtime?.startsWith("/")
    ? [`${runtime.replace(/\/+$/, "")}/reload-self`, inTemporary]
    : [inTemporary];
}

/**
 * The first that can be made and belongs to this user alone: in a folder for all users, another
 * user may have made it before.
 */
function findFolder(
  candidates: readonly string[],
  uid: number,
  { make, look }: ServiceFiles,
): string | undefined {
  return candidates.find((path) => {
    attempt(() => make(path));
    const found = attempt(() => look(path));
    return found?.isDirectory === true && found.uid === uid &&
      ((found.mode ?? 0o777) & 0o077) === 0;
  });
}

/** The part of a service adapter that works with these files, for all runtimes. */
export function folderAndOutput(
  files: ServiceFiles,
  { LOCALAPPDATA, XDG_RUNTIME_DIR, TMPDIR }: Environment,
  isWindows: boolean,
): Pick<ServiceAdapter, "runtimeFolder" | "errorOutput"> {
  return {
    runtimeFolder() {
      if (isWindows) {
        if (!LOCALAPPDATA) return undefined;
        // Below the user's own folder, which no other user may read.
        const path = `${LOCALAPPDATA}\\reload-self`;
        return attempt(() => (files.make(path), path));
      }
      const uid = files.uid();
      return uid === undefined
        ? undefined
        : findFolder(folderCandidates(XDG_RUNTIME_DIR, TMPDIR, uid), uid, files);
    },
    errorOutput() {
      const begun = files.outputSize();
      if (begun === undefined) return undefined;
      const read = () => {
        const buffer = new Uint8Array(MAX_OUTPUT);
        const from = Math.max(begun, (files.outputSize() ?? 0) - MAX_OUTPUT);
        return new TextDecoder().decode(buffer.subarray(0, files.readOutput(buffer, from)));
      };
      return { read: () => attempt(read) ?? "" };
    },
  };
}

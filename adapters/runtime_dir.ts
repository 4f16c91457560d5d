/** The folder for the status files of a user's programs. */
import { attempt } from "./attempt.ts";

/** How much of what was written to stderr is looked at. */
export const MOST_OUTPUT = 8_192;

/** How a folder is made, and what it is; links are not followed. */
export interface FolderFiles {
  make(path: string): void;
  look(path: string): { isDirectory: boolean; uid: number | null; mode: number | null };
}

/** Where the folder may be, the best first: the folder that a session has for such things, or one in that for temporary files. */
export function folderCandidates(runtime: string | undefined, temporary: string | undefined, uid: number): string[] {
  const inTemporary = `${(temporary || "/tmp").replace(/\/+$/, "")}/reload-self-${uid}`;
  return runtime?.startsWith("/") ? [`${runtime.replace(/\/+$/, "")}/reload-self`, inTemporary] : [inTemporary];
}

/** The first that can be had and that is the user's alone: in a folder for all, somebody else may have been faster. */
export function runtimeFolder(candidates: readonly string[], uid: number, { make, look }: FolderFiles): string | undefined {
  return candidates.find((path) => {
    attempt(() => make(path));
    const found = attempt(() => look(path));
    return found?.isDirectory === true && found.uid === uid && ((found.mode ?? 0o777) & 0o077) === 0;
  });
}

/** The folder on Windows: below the user's own, which no other user may read. */
export function windowsFolder(localAppData: string | undefined, make: (path: string) => unknown): string | undefined {
  if (!localAppData) return undefined;
  const path = `${localAppData}\\reload-self`;
  try {
    make(path);
    return path;
  } catch {
    return undefined;
  }
}

/** The folder for the status files of a user's programs. */
import { attempt } from "../../src/core/attempt.ts";

/** The bytes at the end of stderr that are kept for a status. */
export const MAX_OUTPUT = 8_192;

/** The operations on folders. Links are not followed. */
export interface FolderFiles {
  make(path: string): void;
  look(path: string): { isDirectory: boolean; uid: number | null; mode: number | null };
}

/** Where the folder may be, the best first: below the runtime directory of the session, or below the folder for temporary files. */
export function folderCandidates(runtime: string | undefined, temporary: string | undefined, uid: number): string[] {
  const inTemporary = `${(temporary || "/tmp").replace(/\/+$/, "")}/reload-self-${uid}`;
  return runtime?.startsWith("/") ? [`${runtime.replace(/\/+$/, "")}/reload-self`, inTemporary] : [inTemporary];
}

/** The first that can be made and belongs to this user alone: in a folder for all users, another user may have made it before. */
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
  return attempt(() => (make(path), path));
}

/**
 * The symbolic link that a deploy turns, where a process cannot know that it was started through
 * it.
 */
import { type RealPath, typedDirectory } from "./command_line.ts";
import type { Environment } from "./environment.ts";
import type { ReleaseLink } from "../../src/core/service_adapter.ts";

/**
 * The operations on files that finding a link needs. Each gives nothing where it is not allowed.
 */
export interface LinkFiles {
  /** The symbolic links in a folder, by their names. */
  links(folder: string): Iterable<string>;
  readonly realPath: RealPath;
}

const parentOf = (path: string) => path.slice(0, path.lastIndexOf("/"));

/** The entries of a folder that are looked at: a folder for temporary files may have very many. */
export const MOST_ENTRIES = 1_000;

/**
 * Finds a link to the working directory, or to the folder that it is in, as deploys have one:
 * `current` beside the releases, or beside the folder of the releases. `undefined` where there is
 * none, and where it is known how the directory was reached: the kernel knows only its real path,
 * and systemd, cron and `sudo` set no `PWD`, or leave another directory's.
 */
export function findReleaseLink(
  loaded: Environment,
  cwd: string,
  files: LinkFiles,
): ReleaseLink | undefined {
  if (!cwd.startsWith("/")) return undefined; // Windows
  const directory = files.realPath(cwd) ?? cwd;
  if (typedDirectory(loaded, directory, files.realPath) !== directory) return undefined;
  for (const target of [directory, parentOf(directory)]) {
    for (const folder of [parentOf(target), parentOf(parentOf(target))]) {
      if (folder === "") continue; // Links in / belong to the system.
      for (const name of files.links(folder)) {
        if (files.realPath(`${folder}/${name}`) !== target) continue;
        const path = `${folder}/${name}${directory.slice(target.length)}`;
        const leadsHere = () => files.realPath(path) === directory;
        return { path, directory, isMeant: loaded.PWD === directory, leadsHere };
      }
    }
  }
  return undefined;
}

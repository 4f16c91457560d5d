/** What finding the link of a deploy needs, loaded with the rest of the adapter. */
import type * as FileSystem from "node:fs";
import { attempt } from "./attempt.ts";
import { type LinkFiles, MOST_ENTRIES } from "./release_link.ts";

/** What finding a link needs, on Node and Bun. */
export function linkFiles(fs: typeof FileSystem): LinkFiles {
  return {
    links: (folder) =>
      attempt(() => {
        const directory = fs.opendirSync(folder);
        const names: string[] = [];
        for (let i = 0, entry; i < MOST_ENTRIES && (entry = directory.readSync()) !== null; i++) {
          if (entry.isSymbolicLink()) names.push(entry.name);
        }
        directory.closeSync();
        return names;
      }) ?? [],
    realPath: (path) => attempt(() => fs.realpathSync(path)),
  };
}

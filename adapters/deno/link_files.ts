/** What finding the link of a deploy needs, loaded with the rest of the adapter. */
import { attempt } from "../shared/attempt.ts";
import { type LinkFiles, MOST_ENTRIES } from "../shared/release_link.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";

/** What finding a link needs, as far as `--allow-read` goes. */
export function linkFiles(deno: DenoNamespace, { isGranted }: Permissions): LinkFiles {
  const ifReadable = <T>(path: string, work: () => T) => isGranted("read", { path }) ? attempt(work) : undefined;
  return {
    links: (folder) =>
      ifReadable(
        folder,
        () => [...deno.readDirSync(folder)].slice(0, MOST_ENTRIES).filter(({ isSymlink }) => isSymlink).map(({ name }) => name),
      ) ?? [],
    realPath: (path) => ifReadable(path, () => deno.realPathSync(path)),
  };
}

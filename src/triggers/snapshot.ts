/**
 * What is at some paths: to notice changes without trusting the events of a runtime, which miss
 * files that are replaced.
 */
import { lstat, readdir, readlink, realpath, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

/** Folders of others: they change with the files that name them. */
const LEFT_OUT = ["node_modules", ".git"];

/** The files at some paths, and the folders in which a change of them shows. */
export interface Snapshot {
  /** What tells a file from another one, or from an earlier state, by its path. */
  readonly files: ReadonlyMap<string, string>;
  readonly folders: ReadonlySet<string>;
}

/** Looks at files and folders, with all that is in them, also behind links. */
export async function takeSnapshot(paths: readonly string[]): Promise<Snapshot> {
  const files = new Map<string, string>();
  const folders = new Set<string>();
  /** The folders that were looked at, without links: a link may lead to where it is. */
  const seen = new Set<string>();

  /** Notes each link on the way: a deploy, and the kubelet for a ConfigMap, replace one of them. */
  async function followLinks(path: string): Promise<void> {
    for (let at = path, hops = 0; hops < 40; hops++) {
      folders.add(dirname(at));
      if (!(await lstat(at)).isSymbolicLink()) return;
      at = resolve(dirname(at), await readlink(at));
    }
  }

  async function look(path: string): Promise<void> {
    try {
      await followLinks(path);
      const info = await stat(path);
      if (!info.isDirectory()) {
        return void files.set(path, `${info.dev} ${info.ino} ${info.size} ${info.mtimeMs}`);
      }
      const real = await realpath(path);
      files.set(path, `folder ${real}`);
      folders.add(path);
      if (seen.has(real)) return;
      seen.add(real);
      for (const name of await readdir(path)) {
        if (!LEFT_OUT.includes(name)) await look(join(path, name));
      }
    } catch {
      files.set(path, "nothing"); // It is being replaced, or may not be read.
    }
  }

  for (const path of paths) await look(resolve(path));
  return { files, folders };
}

/** A path at which there is something else than before; `undefined` where there is none. */
export function findChange(before: Snapshot, now: Snapshot): string | undefined {
  for (const [path, state] of now.files) if (before.files.get(path) !== state) return path;
  for (const path of before.files.keys()) if (!now.files.has(path)) return path;
  return undefined;
}

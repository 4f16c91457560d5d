import type * as FileSystem from "node:fs";
import type { SocketFiles } from "../../core/socket_adapter.ts";

/** The operations on the paths of unix sockets, with node:fs. */
export function nodeFiles(fs: typeof FileSystem): SocketFiles {
  return {
    kind(path) {
      const info = fs.lstatSync(path, { throwIfNoEntry: false });
      return info === undefined ? "nothing" : info.isSocket() ? "socket" : "other";
    },
    mode: (path) => fs.lstatSync(path).mode & 0o7777,
    chmod: (path, mode) => fs.chmodSync(path, mode),
    link: (from, to) => fs.linkSync(from, to),
    rename: (from, to) => fs.renameSync(from, to),
    remove: (path) => fs.rmSync(path, { force: true }),
  };
}

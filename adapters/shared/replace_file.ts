import type { Files } from "../../src/core/files.ts";

/**
 * Replaces a file in one step, and leaves nothing behind when that fails.
 *
 * @param write Writes the new file under a name at which there is none; must not follow a link.
 */
export function replaceFile(
  { remove, rename }: Pick<Files, "remove" | "rename">,
  path: string,
  pid: number,
  write: (temporary: string) => void,
): void {
  const temporary = `${path}.${pid}.new`;
  remove(temporary);
  try {
    write(temporary);
    rename(temporary, path);
  } catch (error) {
    remove(temporary);
    throw error;
  }
}

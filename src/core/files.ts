/** Who may use a file. */
export interface FileAccess {
  /** The id of its owner. */
  readonly uid: number;
  /** The id of its group. */
  readonly gid: number;
  /** The permission bits. */
  readonly mode: number;
}

/**
 * Synchronous operations on small files and on the paths of unix sockets. They throw the errors of
 * the runtime.
 */
export interface Files {
  /**
   * The text of a file; `undefined` where there is no file, or a symbolic link. Throws for a file
   * that is not an ordinary one, such as a FIFO, which would make this process wait, and for one
   * larger than 256 KiB.
   */
  read(path: string): string | undefined;
  /**
   * The time of the last change, in milliseconds since 1970; `undefined` where there is no file.
   */
  modified(path: string): number | undefined;
  /**
   * Replaces a file in one step. A link at the path is replaced, not followed.
   *
   * @param mode The permission bits, which the umask may narrow. Default: 0600.
   */
  replace(path: string, text: string, mode?: number): void;
  /** Makes a file that only its owner may read. Returns `false` where there is one already. */
  create(path: string): boolean;
  /** The names in a folder; none where it cannot be read. */
  list(folder: string): readonly string[];
  /** Removes a file, if there is one. */
  remove(path: string): void;
  /** The kind of file at a path; links are not followed. */
  kind(path: string): "socket" | "other" | "nothing";
  /** Who may use a file; a link is not followed. */
  access(path: string): FileAccess;
  /** Sets the owner and the group. */
  chown(path: string, uid: number, gid: number): void;
  /** Sets the permission bits. */
  chmod(path: string, mode: number): void;
  /** Gives a file another name. */
  link(from: string, to: string): void;
  /** Renames a file; what was there is replaced. */
  rename(from: string, to: string): void;
}

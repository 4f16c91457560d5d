/** The data. It is handed over as a whole, while no connection can change it. */

/** A value, and the time when it expires, in milliseconds since 1970. */
interface Entry {
  value: string | string[];
  expires?: number;
}

/** The error of Redis for a list where a text is needed, or the other way round. */
export class WrongType extends Error {
  override message = "WRONGTYPE Operation against a key holding the wrong kind of value";
}

export class Database {
  #entries = new Map<string, Entry>();

  #entry(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry?.expires === undefined || entry.expires > Date.now()) return entry;
    this.#entries.delete(key);
    return undefined;
  }

  text(key: string): string | undefined {
    const value = this.#entry(key)?.value;
    if (Array.isArray(value)) throw new WrongType();
    return value;
  }

  list(key: string): string[] | undefined {
    const value = this.#entry(key)?.value;
    if (typeof value === "string") throw new WrongType();
    return value;
  }

  /** Sets a value, and whether and when it expires. */
  set(key: string, value: string | string[], expires?: number): void {
    this.#entries.set(key, { value, ...(expires !== undefined && { expires }) });
  }

  /** Changes a text, and leaves alone when it expires. */
  update(key: string, value: string): void {
    this.set(key, value, this.#entry(key)?.expires);
  }

  delete(key: string): boolean {
    return this.#entry(key) !== undefined && this.#entries.delete(key);
  }

  /** Lets a value expire. Returns whether there is one. */
  expireAt(key: string, time: number): boolean {
    const entry = this.#entry(key);
    if (entry !== undefined) entry.expires = time;
    return entry !== undefined;
  }

  /** Milliseconds until a value expires; -1 for never, -2 where there is none. */
  timeToLive(key: string): number {
    const entry = this.#entry(key);
    return entry === undefined ? -2 : entry.expires === undefined ? -1 : entry.expires - Date.now();
  }

  /** What JSON.stringify takes. */
  toJSON(): [string, Entry][] {
    return [...this.#entries];
  }

  /** What came from the generation before. */
  load(state: unknown): void {
    this.#entries = new Map(state as [string, Entry][] ?? []);
  }
}

/** Watching files and folders. */
import { existsSync, type FSWatcher, watch } from "node:fs";
import { attempt } from "../core/attempt.ts";
import { findChange, type Snapshot, takeSnapshot } from "./snapshot.ts";
import { after } from "./timer.ts";

/** How long nothing may change before a change counts: a build, or a copy, writes for a while. */
export const DEFAULT_DEBOUNCE_MS = 300;
/**
 * Milliseconds between two looks where there are no events: network file systems, mounts of
 * containers, too many folders.
 */
const LOOK_MS = 5_000;
/** A look at many files takes its time: it is taken so much more seldom. */
const LOOK_PART = 50;

/** After so many waits in which something has changed, it is not waited any more. */
const MOST_DEBOUNCES = 20;

/** Throws when there is nothing at one of the paths: it is probably misspelt. */
export function checkPaths(paths: readonly string[]): void {
  for (const path of paths) {
    if (!existsSync(path)) throw new TypeError(`there is no file or folder ${path} to watch`);
  }
}

/** The events of folders, as far as the runtime has them. */
class FolderEvents {
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #onEvent: () => void;

  constructor(onEvent: () => void) {
    this.#onEvent = onEvent;
  }

  /** Hears of these folders from now on, and of no other. */
  follow(folders: ReadonlySet<string>): void {
    for (const folder of this.#watchers.keys()) if (!folders.has(folder)) this.#close(folder);
    for (const folder of folders) if (!this.#watchers.has(folder)) this.#open(folder);
  }

  #open(folder: string): void {
    // It may be gone, or there are too many: then it is looked at from time to time.
    const watcher = attempt(() =>
      watch(folder, { persistent: false }, () => {
        after(0, () => watcher?.unref());
        // The folder may have another inode now.
        if (!existsSync(folder)) this.#close(folder);
        this.#onEvent();
      })
    );
    if (watcher === undefined) return;
    watcher.on("error", () => this.#close(folder));
    watcher.unref(); // Deno 2.9 does not know `persistent`, and forgets this at each event.
    this.#watchers.set(folder, watcher);
  }

  #close(folder: string): void {
    this.#watchers.get(folder)?.close();
    this.#watchers.delete(folder);
  }
}

/** Waits until nothing changes any more. What is written all the time is not waited for. */
async function settled(
  paths: readonly string[],
  first: Snapshot,
  debounce: number,
): Promise<Snapshot> {
  let now = first;
  for (let i = 0; i < MOST_DEBOUNCES; i++) {
    await pause(debounce);
    const next = await takeSnapshot(paths);
    if (findChange(now, next) === undefined) return next;
    now = next;
  }
  return now;
}

/**
 * Calls back when something else is at one of the paths, or in one of the folders. An event of the
 * runtime only says when to look: which events there are differs from system to system. Returns a
 * function that stops it.
 */
export function watchPaths(
  paths: readonly string[],
  debounce: number,
  changed: (path: string) => void,
): () => void {
  let isStopped = false;
  let stopTimer = () => {};
  let last = takeSnapshot(paths);
  /** Whether a look is about to be taken, or is taken now. */
  let isLooking = true;
  /** Whether something may have changed since the last look began. */
  let isStale = false;
  const events = new FolderEvents(() => {
    isStale = true;
    if (isLooking) return;
    isLooking = true;
    look(debounce);
  });

  /** Looks some time later. */
  function look(milliseconds: number): void {
    stopTimer();
    if (!isStopped) stopTimer = after(milliseconds, () => void compare());
  }

  async function compare(): Promise<void> {
    isLooking = true;
    isStale = false;
    const begun = performance.now();
    const before = await last;
    let now = await takeSnapshot(paths);
    const took = performance.now() - begun;
    const path = findChange(before, now);
    if (path !== undefined) now = await settled(paths, now, debounce);
    if (isStopped) return;
    last = Promise.resolve(now);
    events.follow(now.folders);
    isLooking = false;
    // Soon where something has changed: the events of a new folder begin only now.
    look(path !== undefined || isStale ? debounce : Math.max(LOOK_MS, LOOK_PART * took));
    if (path !== undefined) changed(path);
  }

  last.then(({ folders }) => {
    if (isStopped) return;
    events.follow(folders);
    look(0); // What has changed before the events began.
  });
  return () => {
    isStopped = true;
    stopTimer();
    events.follow(new Set());
  };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => after(milliseconds, resolve));
}

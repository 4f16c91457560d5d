import { execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { cleanUp, type TestScope } from "./clean_up.ts";
import { temporaryFolder } from "./program.ts";
import { until } from "./wait.ts";

const run = promisify(execFile);

/** A systemd of the test's own. */
export interface Systemd {
  /** Runs a program inside; rejects when its exit code is not 0. */
  execute(file: string, ...args: string[]): Promise<string>;
  /** A property of a unit. */
  show(unit: string, property: string): Promise<string>;
  /** Where a file of the sandbox is found from outside. */
  path(path: string): string;
  /** The pid out here of a process that has this pid in there. */
  outside(pid: number): Promise<number>;
}

/** How a systemd is booted. */
export interface BootOptions {
  /** A folder of files to be laid over those of this machine: another version of systemd. */
  layer?: string | undefined;
  /**
   * With a network of its own, in which every port is free. Only what is executed inside can
   * connect.
   */
  ownNetwork?: boolean;
}

/** Boots a systemd, or says why that cannot be done here. */
export async function bootSystemd(
  t: TestScope,
  { layer = "", ownNetwork = false }: BootOptions = {},
): Promise<Systemd | string> {
  if (process.platform !== "linux") return "systemd runs on Linux only";
  if (process.getuid?.() !== 0) return "it takes root to boot a systemd in namespaces of its own";
  const folder = temporaryFolder(t);
  const child = spawn(fileURLToPath(new URL("systemd.sh", import.meta.url)), [folder], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, LAYER: layer, ...(ownNetwork && { NETWORK: "own" }) },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => output += data);
  let ended = false;
  const exit = new Promise<void>((resolve) => child.once("exit", resolve));
  exit.then(() => ended = true);
  cleanUp(t, async () => {
    child.stdin.end();
    await exit;
  });
  const pid = await until("systemd to boot", () => {
    if (ended) return "";
    try {
      return readFileSync(join(folder, "pid"), "utf8").trim();
    } catch {
      return undefined;
    }
  });
  if (pid === "") return `no systemd can be booted here: ${output.trim()}`;

  async function execute(...command: string[]): Promise<string> {
    const { stdout } = await run("nsenter", [
      "-t",
      pid as string,
      "-m",
      "-p",
      "-C",
      "-i",
      "-u",
      ...(ownNetwork ? ["-n"] : []),
      ...command,
    ]);
    return stdout.trim();
  }
  // "degraded", where a unit of its own fails here.
  await execute("systemctl", "is-system-running", "--wait").catch(() => {});
  return {
    execute,
    show: (unit, property) => execute("systemctl", "show", unit, "--value", "--property", property),
    path: (path) => `/proc/${pid}/root${path}`,
    outside: async (inner) => {
      const found = await until(`process ${inner} of the sandbox`, async () => {
        const { stdout } = await run("grep", [
          "-lsxE",
          `NSpid:[[:space:]].*[[:space:]]${inner}`,
          "-r",
          "/proc",
          "--include=status",
          "--exclude-dir=task",
        ]).catch(() => ({ stdout: "" }));
        return /\/proc\/(\d+)\/status/.exec(stdout)?.[1];
      });
      return Number(found);
    },
  };
}

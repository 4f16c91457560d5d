import { pinned } from "../pinned.mjs";

/** A runtime that programs under test are started with. */
export interface Runtime {
  readonly name: string;
  readonly kind: "node" | "deno" | "bun";
  readonly executable: string;
  /** What comes between the executable and the script when nothing is restricted. */
  readonly flags: readonly string[];
  /** The kinds of servers: node's own, and the runtime's. */
  readonly servers: readonly ("http" | "adopted" | "native")[];
}

function runtime(
  name: keyof typeof pinned & string,
  kind: Runtime["kind"],
  flags: readonly string[],
): Runtime {
  const servers = kind === "node" ? ["http"] as const : ["http", "adopted", "native"] as const;
  return { name, kind, executable: pinned[name], flags, servers };
}

/**
 * Every runtime and version that is promised to work. RUNTIMES=deno,bun narrows it down while
 * developing.
 */
export const runtimes: readonly Runtime[] = [
  runtime("node22", "node", ["--disable-warning=ExperimentalWarning"]),
  runtime("node24", "node", []),
  runtime("node26", "node", []),
  runtime("deno", "deno", ["run", "--allow-all", "--quiet", "--unstable-net"]),
  runtime("bun", "bun", []),
].filter(({ name }) => (process.env.RUNTIMES ?? name).split(",").includes(name));

/** The flags without those of Deno's unstable functions. */
export const stableFlags = ({ flags }: Runtime): readonly string[] =>
  flags.filter((flag) => !flag.startsWith("--unstable"));

/** The oldest of each kind: for what does not depend on the version, but takes long. */
export const oneOfEachKind: readonly Runtime[] = runtimes.filter(({ kind }, i) =>
  runtimes.findIndex((runtime) => runtime.kind === kind) === i
);

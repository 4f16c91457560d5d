/** The pinned executables, by name. */
export const pinned: Record<"node22" | "node24" | "node26" | "deno" | "bun", string>;

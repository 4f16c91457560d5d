/** The pinned executables, by name. */
export const pinned: Record<"node20" | "node22" | "node24" | "node26" | "deno" | "bun", string>;

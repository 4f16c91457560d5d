/** Deno's permissions, as flags name them. */
export const PERMISSIONS = ["read", "write", "net", "env", "sys", "run", "ffi", "import"] as const;

/** The name of a permission. */
export type Permission = (typeof PERMISSIONS)[number];

/** What `Deno.permissions.query` tells of a whole permission. */
export interface PermissionState {
  /** `"granted"`, `"denied"`, or `"prompt"` for one that was not mentioned. */
  readonly state: string;
  /** Only for some values, which cannot be asked for. */
  readonly partial?: boolean;
}

/**
 * The flags that give a process these permissions and not one more. `undefined` when some are restricted to a list of values:
 * Deno does not tell which, and a guess would either be wider or break the program.
 */
export function permissionFlags(states: Readonly<Record<Permission, PermissionState>>): string[] | undefined {
  if (PERMISSIONS.some((name) => states[name].partial)) return undefined;
  if (PERMISSIONS.every((name) => states[name].state === "granted")) return ["--allow-all"];
  return PERMISSIONS.flatMap((name) => {
    if (states[name].state === "granted") return [`--allow-${name}`];
    // Some hosts may be imported from unless that is denied.
    return states[name].state === "denied" || name === "import" ? [`--deny-${name}`] : [];
  });
}

/** The version of this package; checked against deno.json. */
export const VERSION = "0.6.0";

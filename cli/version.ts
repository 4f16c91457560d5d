/** The version of this package; the checks compare it to jsr.json. */
export const VERSION = "0.3.0";

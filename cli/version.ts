/** The version of this package; the checks compare it to jsr.json. */
export const VERSION = "0.4.0";

import { defineHandler } from "nitro/h3";

const VERSION = 1;

/** Nitro loads a route when it is asked for the first time. */
export default defineHandler(() => `version ${VERSION}\n`);

import process from "node:process";
import { defineHandler } from "nitro/h3";

const VERSION = 1;

export default defineHandler(() => `version ${VERSION}, pid ${process.pid}\n`);

import process from "node:process";

const VERSION = 1;

export const load = () => ({ version: VERSION, pid: process.pid });

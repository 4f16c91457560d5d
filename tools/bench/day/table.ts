/** The table of the days in docs/guarantees.md, and in its Chinese twin. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pinned } from "../../../tests/pinned.mjs";

/** The heads of the columns. */
export const HEADERS = {
  en: [
    "",
    "minutes",
    "reloads",
    "faults",
    "requests and messages",
    "lost",
    "doubled",
    "leaked",
    "with a killed process",
  ],
  zh: ["", "分钟", "重载", "故障", "请求和消息", "丢失", "重复", "泄漏", "随被杀进程而去"],
} as const;

const FILES = { en: "guarantees.md", zh: "zh/guarantees.md" } as const;
const BEGIN = "<!-- npm run bench -- day -->";
const END = "<!-- end -->";

/** In Markdown. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join(
    "\n",
  );
}

/**
 * Puts rows into the text of a page, each in the place of the one that is there for its runtime.
 */
export function withRows(
  page: string,
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) {
    throw new Error(`the page has no place for the table: ${BEGIN} ... ${END}`);
  }
  const there = page.slice(begin, end).split("\n").filter((line) => line.startsWith("| ")).slice(1)
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()))
    .filter(([name]) => name !== "" && !/^-+$/.test(name as string));
  const all = new Map([...there, ...rows].map((row) => [row[0] as string, row]));
  return `${page.slice(0, begin)}${BEGIN}\n\n${table(header, [...all.values()])}\n\n${
    page.slice(end)
  }`;
}

/** Writes rows into the pages below a folder. */
export function writeTables(folder: string, rows: readonly (readonly string[])[]): void {
  for (const language of ["en", "zh"] as const) {
    const file = join(folder, FILES[language]);
    writeFileSync(file, withRows(readFileSync(file, "utf8"), HEADERS[language], rows));
    execFileSync(pinned.deno, ["fmt", "--quiet", file]);
  }
}

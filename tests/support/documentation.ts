import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./package.ts";

/** The blocks of code of a document, in a language. */
export function blocksOf(file: string, language: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  return [...text.matchAll(/^```(\w+)\n([^]*?)^```/gm)].filter(([, name]) => name === language).map(([, , code]) =>
    code as string
  );
}

/** The first block of code below a heading of a document, in a language. */
export function blockOf(file: string, heading: string, language: string): string | undefined {
  const text = readFileSync(join(root, file), "utf8");
  const section = text.slice(text.indexOf(`\n${heading}`) + 1).slice(heading.length).split(/^## /m)[0] as string;
  return new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``).exec(section)?.[1];
}

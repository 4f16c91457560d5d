import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./package.ts";

const read = (file: string) => readFileSync(join(root, file), "utf8");

function blocksIn(text: string, language: string): string[] {
  const blocks = [...text.matchAll(/^```(\w+)\n([^]*?)^```/gm)];
  return blocks.filter(([, name]) => name === language).map(([, , code]) => code as string);
}

/** The blocks of code of a document, in a language. */
export function blocksOf(file: string, language: string): string[] {
  return blocksIn(read(file), language);
}

/** The first block of code below a heading of a document, in a language. */
export function blockOf(file: string, heading: string, language: string): string | undefined {
  const text = read(file);
  const section = text.slice(text.indexOf(`\n${heading}`) + 1).slice(heading.length).split(
    /^## /m,
  )[0] as string;
  return blocksIn(section, language)[0];
}

/**
 * The examples of the doc comments of a file, each with the line of code that its comment belongs
 * to.
 */
export function examplesOf(file: string): { declaration: string; code: string }[] {
  const comments = [...read(file).matchAll(/^( *)\/\*\*\n([^]*?)^ *\*\/\n(?: *\/\/.*\n)*(.*)/gm)];
  return comments.flatMap(([, , comment = "", declaration = ""]) => {
    const text = comment.replaceAll(/^ *\* ?/gm, "");
    return [...text.matchAll(/^@example.*\n```ts\n([^]*?)^```/gm)].map(([, code = ""]) => ({
      declaration: text.includes("@module") ? "the module" : declaration.trim(),
      code,
    }));
  });
}

/**
 * The README's program for Node, with a port of its own; its answer, and a line, tell the pid and
 * the generation.
 */
export function readmeProgram(port: number): string {
  const code = blocksOf("README.md", "ts").find((code) => code.startsWith("// Node\n")) as string;
  const who = "pid ${process.pid}, generation ${listen().generation}";
  return `${
    code.replace("8000", String(port)).replace("pid ${process.pid}", who)
  }console.log(\`${who}: listening\`);\n`;
}

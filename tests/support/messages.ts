/** The texts that the library and the command line can print, from their source. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./package.ts";

/** What stands for a value in a text. */
export const HOLE = "…";

interface Literal {
  text: string;
  /** What is before it on its line, or on the line above. */
  before: string;
  start: number;
  end: number;
}

/** After these a slash begins a regular expression, not a division. */
const BEFORE_PATTERN = /(?:[(,=:[!&|?{};]|=>|\breturn)\s*$/;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", "0": "\0", b: "\b" };

/** The string and template literals of a source, the inner ones of templates too. */
function literalsOf(source: string): Literal[] {
  const found: Literal[] = [];
  let at = 0;

  function lineBefore(position: number): string {
    const before = source.slice(0, position).trimEnd();
    return before.slice(before.lastIndexOf("\n") + 1);
  }

  function string(quote: string): void {
    const start = at;
    let text = "";
    at++;
    while (source[at] !== quote) text += character(quote);
    at++;
    found.push({ text, before: lineBefore(start), start, end: at });
  }

  function character(quote: string): string {
    const char = source[at++] as string;
    if (char === "\\") {
      const escaped = source[at++] as string;
      if (escaped === "x") {
        at += 2;
        return "";
      }
      return ESCAPES[escaped] ?? escaped;
    }
    if (quote === "`" && char === "$" && source[at] === "{") {
      at++;
      code("}");
      return HOLE;
    }
    return char;
  }

  /** Code, up to a closing brace of its own or the end. */
  function code(until?: string): void {
    let depth = 0;
    while (at < source.length) {
      const char = source[at] as string;
      if (char === until && depth === 0) return void at++;
      if (source.startsWith("//", at)) at = source.indexOf("\n", at);
      else if (source.startsWith("/*", at)) at = source.indexOf("*/", at) + 2;
      else if (char === '"' || char === "'" || char === "`") string(char);
      else if (char === "/" && BEFORE_PATTERN.test(source.slice(Math.max(0, at - 20), at))) {
        pattern();
      } else {
        if (char === "{") depth++;
        if (char === "}") depth--;
        at++;
      }
    }
  }

  function pattern(): void {
    let inClass = false;
    for (at++; inClass || source[at] !== "/"; at++) {
      if (source[at] === "\\") at++;
      else if (source[at] === "[") inClass = true;
      else if (source[at] === "]") inClass = false;
    }
    at++;
  }

  code();
  return found.sort((a, b) => a.start - b.start);
}

/** Joins literals with a plus between them: a long text has several lines. */
function joined(source: string, literals: Literal[]): Literal[] {
  const all: Literal[] = [];
  for (const literal of literals) {
    const before = all.filter(({ end }) => end <= literal.start);
    const last = before.reduce<Literal | undefined>(
      (last, each) => last === undefined || each.end > last.end ? each : last,
      undefined,
    );
    if (last !== undefined && /^\s*\+\s*$/.test(source.slice(last.end, literal.start))) {
      last.text += literal.text;
      last.end = literal.end;
    } else all.push({ ...literal });
  }
  return all;
}

/**
 * What is before a literal that is not a message: the help of the command line, and names of parts,
 * which messages have in them.
 */
const NO_MESSAGE =
  /(?:help|summary|usage|value|\bname|server): *$|(?:const name =|Symbol\.for\(|\.encode\() *$/;
/**
 * Programs for a shell or another runtime, states for systemd, and the lines around the help of the
 * command line.
 */
const NO_PROSE =
  /\n.|\$[$?]|"\$0"|readTextFileSync|^STATUS=|^reload-self <command>|: programs that replace themselves/;

/** A text as it is looked for: without marks of code, and with one space between words. */
export function plain(text: string): string {
  return text.replaceAll("`", "").replace(/\s+/g, " ").replaceAll(`${HOLE}${HOLE}`, HOLE).trim();
}

const wordsOf = (text: string) => text.split(" ").filter((word) => /[a-z]/i.test(word)).length;

/** A text of at least so many words is taken for a message. */
const LEAST_WORDS = 3;

/**
 * The texts that people may read, each with the first file that has it. Values are
 * {@linkcode HOLE}.
 */
export function messages(): Map<string, string> {
  const found = new Map<string, string>();
  for (const file of globSync(["*.ts", "{src,adapters,cli}/**/*.ts"], { cwd: root }).sort()) {
    const source = readFileSync(join(root, file), "utf8");
    for (const { text, before } of joined(source, literalsOf(source))) {
      if (NO_MESSAGE.test(before) || NO_PROSE.test(text.trimEnd())) continue;
      const message = plain(text);
      if (wordsOf(message) >= LEAST_WORDS && !found.has(message)) found.set(message, file);
    }
  }
  return found;
}

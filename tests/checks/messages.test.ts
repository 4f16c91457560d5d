/**
 * What people look up by its text stands in the documentation: messages, events, codes of errors.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HOLE, messages, plain } from "../support/messages.ts";
import { root } from "../support/package.ts";

const read = (file: string) => readFileSync(join(root, file), "utf8");
const all = messages();

/**
 * The messages of an entry: the lines that end in a backslash, in marks of code. The last line is
 * the explanation.
 */
const entriesOf = (text: string) =>
  [...text.matchAll(/^(?:- | {2})(`+)(.+?)\1\\$/gm)].map(([, , message]) =>
    plain(message as string)
  );

for (const page of ["docs/troubleshooting.md", "docs/zh/troubleshooting.md"]) {
  test(`${page} has every message of the code, and no other`, () => {
    assert.ok(all.size > 300, `${all.size} messages`);
    const entries = entriesOf(read(page));
    const missing = [...all].filter(([message]) => !entries.includes(message)).map((
      [message, file],
    ) => `${file}: ${message}`);
    assert.deepEqual(missing, [], `write an entry for each, with ${HOLE} for values`);
    assert.deepEqual(entries.filter((entry) => !all.has(entry)), [], "the code has these no more");
  });
}

test("the texts are found in the code as they are printed", () => {
  for (
    const text of [
      "this process listens on … by itself, and no second process can: write …",
      "the new process cannot listen on …",
      "listen: the pid file … cannot be written: …",
    ]
  ) assert.ok(all.has(text), text);
});

/** The events with their fields, from the type: a union of objects. */
function eventsOf(source: string): Map<string, string[]> {
  const union = /export type ReloadEvent =([^]*?);\n\n/.exec(source)?.[1] as string;
  const members = union.replace(/\/\*\*[^]*?\*\//g, "").split(/^ {2}\| /m).slice(1);
  return new Map(members.map((member) => {
    const outer = member.replace(/(?<=.)\{[^{}]*\}(?=;)/g, "");
    const [type = "", ...fields] = [...outer.matchAll(/(\w+): ("[\w-]+")?/g)].map((
      [, field, value],
    ) => value ?? field as string);
    return [type.slice(1, -1), fields.filter((field) => !field.startsWith('"'))];
  }));
}

/** The first two cells of each row of the tables of a page: a name, and names. */
const rowsOf = (page: string) =>
  new Map(
    [...read(page).matchAll(/^\| `(?!type`)([\w-]+)` +\|([^|]*)\|/gm)].map(([, name, cell]) =>
      [
        name as string,
        [...(cell as string).matchAll(/`(\w+)`/g)].map(([, field]) => field as string),
      ] as const
    ),
  );

for (const page of ["docs/events.md", "docs/zh/events.md"]) {
  test(`${page} has every event with its fields`, () => {
    const events = eventsOf(read("src/core/event.ts"));
    assert.ok(
      events.size > 15 && events.get("reload-begin")?.includes("cause"),
      JSON.stringify([...events]),
    );
    assert.deepEqual(new Map([...rowsOf(page)].sort()), new Map([...events].sort()));
  });
}

for (
  const [page, heading] of [["docs/token.md", "## Errors"], [
    "docs/zh/token.md",
    "## 错误",
  ]] as const
) {
  test(`${page} has every code of a ReloadError`, () => {
    const union = /export type ReloadErrorCode =([^;]*);/.exec(read("src/core/error.ts"))
      ?.[1] as string;
    const codes = [...union.matchAll(/"([\w-]+)"/g)].map(([, code]) => code as string);
    const section = read(page).split(`${heading}\n`)[1] as string;
    assert.deepEqual(
      [...section.matchAll(/^\| `([\w-]+)` /gm)].map(([, code]) => code).sort(),
      codes.sort(),
    );
  });
}

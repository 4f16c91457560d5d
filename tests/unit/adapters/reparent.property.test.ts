/** The shells between two processes: what they start gets its arguments as they were. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import fc from "fast-check";
import { guarded, kept } from "../../../adapters/shared/reparent.ts";

const run = promisify(execFile);

/** Whatever a shell could take for something of its own. */
const argument = fc.oneof(
  fc.string({
    unit: fc.constantFrom(
      "'",
      '"',
      "$",
      "`",
      "\\",
      " ",
      "\n",
      "\t",
      "*",
      "?",
      "~",
      "!",
      "#",
      "&",
      ";",
      "|",
      "(",
      "a",
      "-",
      "=",
      "{",
    ),
  }),
  fc.string({ unit: "grapheme" }).filter((text) => !text.includes("\0")),
  fc.constantFrom("", "-c", "--", "$0", "$@", "${x}", "$(id)", "-n", "\\c"),
);

/** Runs a command that prints its arguments, each with a NUL behind it, and its parent. */
async function printed(
  file: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<string[]> {
  const { stdout } = await run(file, args, { env: { ...process.env, ...env }, encoding: "utf8" });
  return stdout.split("\0").slice(0, -1);
}

const PRINT =
  'for argument; do printf "%s\\0" "$argument"; done; printf "%s\\0" "$RELOAD_SELF_PARENT" "$PPID" "$RELOAD_SELF_GUARD"';

test("through the shells of systemd and of reload-self run, arguments come as they were typed", async () => {
  const folder = mkdtempSync(join(tmpdir(), "reload-self-"));
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(argument, { maxLength: 6 }), async (args) => {
        const program = { file: "/bin/sh", args: ["-c", PRINT, "sh", ...args] };
        const env = { RELOAD_SELF: "1:4", RELOAD_SELF_PARENT: "4:1", RELOAD_SELF_RUN: folder };
        for (const start of [kept, guarded]) {
          const { file, args: wrapped } = start(program, "/bin/sh");
          const values = await printed(file, wrapped, env);
          const [meant, parent, guard] = values.splice(-3);
          assert.deepEqual(values, args);
          assert.equal(meant, `4:${parent}`, "the handshake is meant for the shell's own child");
          if (start === guarded) assert.equal(guard, parent);
        }
      }),
      { numRuns: 60 },
    );
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith("guard.")),
      [],
      "a guard removes its file",
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

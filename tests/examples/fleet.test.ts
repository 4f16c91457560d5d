/**
 * examples/fleet: the files fit those who read them, the script of the manifest runs, and Ansible
 * runs the playbook.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { pinned } from "../pinned.mjs";
import {
  commandOf,
  createImage,
  namespace,
  parseYaml,
  read,
  runtime,
  skip,
} from "../support/container.ts";
import { pathWith, provide, root, run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { commandLineOf } from "../support/proc.ts";
import { startProgram, temporaryFolder } from "../support/program.ts";
import { missing } from "../support/tools.ts";
import { until } from "../support/wait.ts";

// Required, not imported: its types would bring those of browsers into all tests.
const { parse: parseHcl } = createRequire(import.meta.url)("@cdktf/hcl2json");
const skipPlaybook = (runtime === undefined && "not asked for") ||
  missing("ansible-playbook", "ansible-core");

/** Its second release fails on machine b. */
const playbookProgram = `
  import { listen } from "@js0/reload-self";
  const token = listen({ pidFile: "pid", logger: console });
  if (import.meta.filename.includes("/releases/2/") && process.env.MACHINE === "b") throw new Error("not on this machine");
  console.log(\`generation \${token.generation}\`);
  await token.cancelled();
`;

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
  const { stdout } = await run(pinned.node26, [
    tsc,
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--types",
    "",
    "manifest.ts",
  ], {
    cwd: folder,
  }).catch((error) => error);
  assert.equal(stdout, "");
});

test(
  "kubernetes.yaml: a change of the ConfigMap reloads, by the script of the manifest",
  { skip },
  async (t) => {
    const [config, deployment] = parseYaml("fleet/kubernetes.yaml");
    assert.equal(config.kind, "ConfigMap");
    const { spec } = deployment.spec.template;
    const [app, watcher] = spec.containers;
    assert.ok(
      app.readinessProbe.httpGet.port === 8000 && app.lifecycle.preStop.exec.command[0] === "sleep",
    );
    assert.equal(
      spec.shareProcessNamespace,
      true,
      "the script finds the other container's process",
    );
    assert.ok(
      spec.terminationGracePeriodSeconds > 30 + Number(app.lifecycle.preStop.exec.command[1]),
    );

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
    writeFileSync(
      join(folder, "both.sh"),
      `sh watch.sh & ${commandOf(read("containers/Dockerfile")).join(" ")} & wait`,
    );
    const program = startProgram(t, runtime!, {
      command: [...namespace, "sh", "both.sh"],
      cwd: folder,
      env: { PATH: path },
    });
    await program.line(/generation 0: listening$/);
    await until(
      "the script to wait",
      () => program.pids().some((pid) => commandLineOf(pid).join(" ") === "sleep 2"),
    );
    write("..2");
    await program.line(/^reload-self: process \d+: reload done/);
    assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /generation 1\n$/);
  },
);

test("reload.ansible.yml goes machine by machine, and stops at the first failure", {
  skip: skipPlaybook,
}, async (t) => {
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
    `[app]\n${
      machines.map(({ name, machine }) => `${name} app_folder=${machine} pid_file=${machine}/pid`)
        .join("\n")
    }\n`,
  );
  cpSync(join(root, "examples", "fleet/reload.ansible.yml"), join(folder, "reload.ansible.yml"));
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
      PATH: pathWith(folder, { node: pinned.node26 }),
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
  for (const { program } of machines.slice(1)) {
    assert.equal(program.lines.includes("generation 1"), false);
  }
  assert.equal(
    machines[2]?.program.lines.some((line) => line.includes("reload")),
    false,
    "it was not asked",
  );
});

test("app.nomad.hcl: a change of the template is a SIGHUP, and there is time to drain", async () => {
  const { job: { app: [job] } } = await parseHcl("app.nomad.hcl", read("fleet/app.nomad.hcl"));
  const [task] = job.group.app[0].task.app;
  assert.deepEqual([task.template[0].change_mode, task.template[0].change_signal], [
    "signal",
    "SIGHUP",
  ]);
  assert.ok(parseInt(task.kill_timeout) > 30);
});

/** What a reload can do on this runtime, with the permissions of this process: for `reload-self doctor`. */
import { existsSync } from "node:fs";
import { release } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import type { Libc } from "../../core/socket_adapter.ts";
import { registry } from "../registry.ts";

/** One fact. */
export interface Finding {
  readonly subject: string;
  /** Is it as it should be? `undefined` for information only. */
  readonly ok: boolean | undefined;
  readonly text: string;
  /** What to do about it. */
  readonly advice?: string;
}

interface DenoGlobal {
  readonly version: { readonly deno: string };
  readonly listenDatagram?: unknown;
  readonly permissions: { querySync(descriptor: { name: string; command?: string }): { state: string } };
}

const globals = globalThis as unknown as { Deno?: DenoGlobal; Bun?: { version: string } };

function isGranted(name: string, command?: string): boolean {
  const descriptor = { name, ...(command !== undefined && { command }) };
  return globals.Deno === undefined || globals.Deno.permissions.querySync(descriptor).state === "granted";
}

function runtimeName(): string {
  if (globals.Deno !== undefined) return `Deno ${globals.Deno.version.deno}`;
  return globals.Bun !== undefined ? `Bun ${globals.Bun.version}` : `Node ${process.versions.node}`;
}

/** Without asking for a permission. */
const variable = (name: string) => registry.adapter.service?.variable(name);

function find(program: string): string | undefined {
  return (variable("PATH") ?? "").split(delimiter).map((folder) => join(folder, program)).find((path) =>
    isGranted("read") && existsSync(path)
  );
}

/**
 * All findings, in the order in which they are shown.
 *
 * @param canSteer Tries what steering takes.
 */
export async function diagnose(canSteer: (libc: Libc) => boolean): Promise<Finding[]> {
  const { Deno } = globals;
  const isLinux = process.platform === "linux";
  const isWindows = process.platform === "win32";
  const findings: Finding[] = [
    { subject: "runtime", ok: undefined, text: `${runtimeName()} on ${process.platform} ${process.arch}` },
  ];
  if (isGranted("sys")) findings.push({ subject: "kernel", ok: undefined, text: release() });
  findings.push(
    isWindows && Deno !== undefined
      ? {
        subject: "token.bind",
        ok: false,
        text: "Deno on Windows cannot hand sockets over: the new process listens as soon as the old one has let go",
      }
      : { subject: "token.bind", ok: true, text: "node:http, https, http2, net: the socket itself is handed over" },
  );
  if (isLinux) findings.push(await diagnoseSteering(canSteer));
  else if (Deno !== undefined || globals.Bun !== undefined) {
    findings.push({
      subject: Deno ? "Deno.serve" : "Bun.serve",
      ok: false,
      text: "connections are steered on Linux only: a reload may lose some",
      advice: "use a server of node:http with token.bind",
    });
  }
  if (!isWindows) {
    findings.push({ subject: "unix sockets", ok: true, text: "the new socket replaces the old one by rename(2)" });
  }
  if (Deno !== undefined) findings.push(...diagnosePermissions());
  findings.push(
    isLinux ? { subject: "command line", ok: true, text: "read from /proc, as the operator typed it" } : {
      subject: "command line",
      ok: false,
      text: `put together from what the runtime tells${Deno ? ", without flags that are no permissions" : ""}`,
      advice: "give listen() a `command` where that is not enough",
    },
  );
  if (isLinux) findings.push(...diagnoseService());
  return findings;
}

async function diagnoseSteering(canSteer: (libc: Libc) => boolean): Promise<Finding> {
  const { Deno, Bun } = globals;
  if (Deno === undefined && Bun === undefined) {
    return { subject: "native servers", ok: undefined, text: "Node has none; `reload-self serve` uses node:http" };
  }
  const subject = Deno ? "Deno.serve" : "Bun.serve";
  const libc = await registry.adapter.sockets?.libc?.() ?? "this process may not listen (Deno: --allow-net)";
  if (typeof libc === "string") return { subject, ok: false, text: libc };
  if (Deno !== undefined && Deno.listenDatagram === undefined) {
    return {
      subject,
      ok: false,
      text: "without --unstable-net its `reusePort` is not known, and no new process can listen beside the old one",
      advice: 'add --unstable-net, or "unstable": ["net"] in deno.json',
    };
  }
  return canSteer(libc)
    ? { subject, ok: true, text: "with `reusePort: true`, the kernel steers every connection to one process or the other" }
    : {
      subject,
      ok: false,
      text: "the kernel does not let a process of these permissions steer connections",
      advice: "allow setsockopt(SO_ATTACH_REUSEPORT_CBPF) and AF_NETLINK in the sandbox (seccomp, RestrictAddressFamilies=)",
    };
}

function diagnosePermissions(): Finding[] {
  return [
    isGranted("env") ? { subject: "environment", ok: true, text: "handed on" } : {
      subject: "environment",
      ok: false,
      text: "it cannot be handed on, and nothing can be reloaded",
      advice: "add --allow-env",
    },
    isGranted("run", "deno") || isGranted("run", process.execPath)
      ? { subject: "start", ok: true, text: "a new process may be started" }
      : { subject: "start", ok: false, text: "no new process may be started", advice: "add --allow-run=deno" },
  ];
}

function diagnoseService(): Finding[] {
  const findings: Finding[] = [];
  if (process.pid === 1) {
    findings.push({
      subject: "process 1",
      ok: false,
      text: "a container ends with its process 1, which a reload replaces",
      advice: "start the program with `reload-self run -- ...`",
    });
  }
  const folder = registry.adapter.service?.runtimeFolder();
  findings.push(
    folder === undefined
      ? {
        subject: "status",
        ok: false,
        text: "no folder that is this user's alone: `reload-self reload` and `status` do not find the program",
        advice: "set XDG_RUNTIME_DIR; Deno needs all permissions for it",
      }
      : { subject: "status", ok: true, text: `kept in ${folder}` },
  );
  const notify = find("systemd-notify");
  const isManaged = variable("NOTIFY_SOCKET") !== undefined;
  if (notify !== undefined || isManaged) {
    findings.push(
      notify === undefined
        ? {
          subject: "systemd",
          ok: false,
          text: "systemd waits to be told, and there is no systemd-notify",
          advice: "install it",
        }
        : { subject: "systemd", ok: true, text: `${isManaged ? "it is told" : "it would be told"} by ${notify}` },
    );
  }
  if (!isGranted("read")) return findings;
  findings.push(
    existsSync("/bin/sh") ? { subject: "/bin/sh", ok: true, text: "there, for systemd and for `reload-self run`" } : {
      subject: "/bin/sh",
      ok: false,
      text: "missing: systemd does not adopt new processes, `reload-self run` does not work",
    },
  );
  return findings;
}

/**
 * What a reload can do on this runtime, with the permissions of this process: for `reload-self
 * doctor`.
 */
import { existsSync } from "node:fs";
import { release } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import type { Libc } from "../../src/core/socket_adapter.ts";
import type { DenoNamespace } from "../deno/namespace.ts";
import type { Permission } from "../deno/permissions.ts";
import { registry } from "../registry.ts";

/** One fact. */
export interface Finding {
  readonly subject: string;
  /** Whether it is as it should be; `undefined` for information only. */
  readonly ok: boolean | undefined;
  readonly text: string;
  /** What to do about it. */
  readonly advice?: string;
}

type DenoGlobal = DenoNamespace & {
  readonly version: { readonly deno: string };
  readonly listenDatagram?: unknown;
};

const { Deno, Bun } = globalThis as unknown as { Deno?: DenoGlobal; Bun?: { version: string } };

const info = (subject: string, text: string): Finding => ({ subject, ok: undefined, text });
const good = (subject: string, text: string): Finding => ({ subject, ok: true, text });
const bad = (subject: string, text: string, advice?: string): Finding => ({
  subject,
  ok: false,
  text,
  ...(advice && { advice }),
});

function isGranted(name: Permission, command?: string): boolean {
  const descriptor = { name, ...(command !== undefined && { command }) };
  return Deno === undefined || Deno.permissions.querySync(descriptor).state === "granted";
}

/** Without asking for a permission. */
const variable = (name: string) => registry.adapter.service?.variable(name);

function find(program: string): string | undefined {
  if (!isGranted("read")) return undefined;
  return (variable("PATH") ?? "").split(delimiter).map((folder) => join(folder, program)).find((
    path,
  ) => existsSync(path));
}

/** What the machine allows: the attempts, each on sockets of its own. */
export interface Attempts {
  /** Whether another socket can be put below one that is polled: `undefined`, or why not. */
  canTransplant(libc: Libc): string | undefined;
  /** Whether connections can be steered. */
  canSteer(libc: Libc): boolean;
}

/** All findings, in the order in which they are shown. */
export async function diagnose(attempts: Attempts): Promise<Finding[]> {
  const isLinux = process.platform === "linux";
  const isWindows = process.platform === "win32";
  const name = Deno
    ? `Deno ${Deno.version.deno}`
    : Bun
    ? `Bun ${Bun.version}`
    : `Node ${process.versions.node}`;
  return [
    info("runtime", `${name} on ${process.platform} ${process.arch}`),
    ...(isGranted("sys") ? [info("kernel", release())] : []),
    isWindows && Deno !== undefined
      ? bad(
        "token.bind",
        "Deno on Windows cannot hand sockets over: the new process listens as soon as the old one has closed its socket",
      )
      : good("token.bind", "node:http, https, http2, net: the socket itself is handed over"),
    ...await diagnoseNative(isLinux, attempts),
    ...(isWindows
      ? []
      : [good("unix sockets", "the new socket replaces the old one by rename(2)")]),
    ...diagnosePermissions(),
    isLinux ? good("command line", "read from /proc, as the operator typed it") : bad(
      "command line",
      `put together from what the runtime knows${
        Deno ? ", without flags that are no permissions" : ""
      }`,
      "give listen() a `command` where that is not enough",
    ),
    ...(isLinux ? await diagnoseService() : []),
  ];
}

async function diagnoseNative(
  isLinux: boolean,
  { canTransplant, canSteer }: Attempts,
): Promise<Finding[]> {
  if (Deno === undefined && Bun === undefined) {
    return isLinux
      ? [info("native servers", "Node has none; `reload-self serve` uses node:http")]
      : [];
  }
  const subject = Deno ? "Deno.serve" : "Bun.serve";
  if (!isLinux) {
    const text = "its socket is handed over on Linux only: a reload may lose connections";
    return [bad(subject, text, "use a server of node:http with token.bind")];
  }
  const libc = (await registry.adapter.loadRest()).sockets?.libc?.() ??
    "this process may not listen (Deno: --allow-net)";
  if (typeof libc === "string") return [bad(subject, libc)];
  const why = canTransplant(libc);
  if (why !== undefined) {
    const advice =
      "allow epoll_ctl, dup3, sendmsg and /proc/self/fdinfo in the sandbox (seccomp, ProcSubset=)";
    return [bad(subject, `the socket of an adopted server cannot be handed over: ${why}`, advice)];
  }
  return [
    good(
      subject,
      "adopted by the token: the socket itself is handed over; tried on a socket of this process",
    ),
    canSteer(libc)
      ? good(
        "reusePort",
        "servers that are not adopted: the kernel steers every connection to one process or the other",
      )
      : info(
        "reusePort",
        "servers that are not adopted may lose connections: the kernel does not let this process steer them",
      ),
  ];
}

function diagnosePermissions(): Finding[] {
  if (Deno === undefined) return [];
  const mayStart = ["deno", process.argv0, process.execPath].some((name) => isGranted("run", name));
  return [
    isGranted("env") ? good("environment", "handed on") : bad(
      "environment",
      "it cannot be handed on, and nothing can be reloaded",
      "add --allow-env",
    ),
    mayStart
      ? good("start", "a new process may be started")
      : bad("start", "no new process may be started", "add --allow-run=deno"),
  ];
}

async function diagnoseService(): Promise<Finding[]> {
  const findings: Finding[] = [];
  if (process.pid === 1) {
    const text = "a container ends with its process 1, which a reload replaces";
    findings.push(bad("process 1", text, "start the program with `reload-self run -- ...`"));
  }
  const folder = (await registry.adapter.loadRest()).service?.runtimeFolder();
  findings.push(
    folder !== undefined ? good("status", `kept in ${folder}`) : bad(
      "status",
      "no folder that is this user's alone: `reload-self reload` and `status` do not find the program",
      "set XDG_RUNTIME_DIR; Deno needs all permissions for it",
    ),
  );
  const notify = find("systemd-notify");
  const isManaged = variable("NOTIFY_SOCKET") !== undefined;
  if (notify !== undefined) {
    findings.push(good("systemd", `${isManaged ? "it is" : "it would be"} notified by ${notify}`));
  } else if (isManaged) {
    findings.push(
      bad("systemd", "systemd waits to be notified, and there is no systemd-notify", "install it"),
    );
  }
  if (!isGranted("read")) return findings;
  findings.push(
    existsSync("/bin/sh") ? good("/bin/sh", "there, for systemd and for `reload-self run`") : bad(
      "/bin/sh",
      "missing: systemd does not adopt new processes, `reload-self run` does not work",
    ),
  );
  return findings;
}

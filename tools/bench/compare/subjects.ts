/**
 * What is compared: servers that answer with their version, and the ways to give them a new one.
 */
import { type ChildProcess, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pinned } from "../../../tests/pinned.mjs";
import { cleanUp } from "../../../tests/support/clean_up.ts";
import { root, run } from "../../../tests/support/package.ts";
import { allPids, isAlive, parentOf } from "../../../tests/support/proc.ts";
import { until } from "../../../tests/support/wait.ts";
import type { Stage } from "./stage.ts";

const PM2 = "7.0.4";
/** Where Debian keeps libraries for Go. */
const GO_PACKAGES = "/usr/share/gocode";

/** A server under test. */
export interface Running {
  /** Gives the command for a reload, or whatever comes closest, and waits until that is done. */
  reload(): Promise<void>;
  /** Resolves when it can be reloaded again. tableflip refuses that while the old process drains. */
  settled?(): Promise<unknown>;
  /** Its processes, where their environment does not tell. */
  pids?(): number[];
}

/** What is compared. */
export interface Subject {
  readonly name: string;
  /** Is it this project? */
  readonly isOurs: boolean;
  /** Does the server know WebSockets? */
  readonly hasWebSockets: boolean;
  /** Does it serve raw TCP as well? */
  readonly hasTcp: boolean;
  /** A program of Debian's that it needs. */
  readonly needs?: Tool;
  /** Starts it. The version of the stage is set before each reload. */
  start(stage: Stage): Promise<Running>;
}

/** A program of Debian's. */
export interface Tool {
  /** The command that prints its version. */
  readonly version: string;
  /** What installs it. */
  readonly packages: string;
}

/** Why a subject cannot be measured here; `undefined` where it can. */
export function whyNot({ needs }: Subject): string | undefined {
  return needs === undefined || versionOf(needs) !== undefined
    ? undefined
    : `apt-get install ${needs.packages}`;
}

/** The first line of what a program says of its version; `undefined` where it is not installed. */
export function versionOf({ version }: Tool): string | undefined {
  const { status, stdout } = spawnSync("sh", ["-c", `${version} 2>&1`], { encoding: "utf8" });
  return status === 0 ? stdout.split("\n")[0] : undefined;
}

/** Starts the server that has no help. Resolves when it listens. */
async function startPlain(stage: Stage, env?: NodeJS.ProcessEnv): Promise<ChildProcess> {
  const child = stage.spawn(pinned.node26, ["plain.mjs"], env);
  await new Promise((resolve) => child.stdout?.once("data", resolve));
  return child;
}

/** Resolves when the server answers. */
async function answers(port: number): Promise<void> {
  await until("an answer", async () => {
    try {
      return (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } })).ok;
    } catch {
      return false;
    }
  });
}

/** A program that is replaced by a new process of itself. Each writes its pid to stdout. */
function byNewProcess(
  name: string,
  command: (folder: string) => readonly string[] | Promise<readonly string[]>,
  { isOurs = false, hasWebSockets = false, waitsForOld = false, needs }: {
    isOurs?: boolean;
    hasWebSockets?: boolean;
    waitsForOld?: boolean;
    needs?: Tool;
  } = {},
): Subject {
  return {
    name,
    isOurs,
    hasWebSockets,
    hasTcp: true,
    needs,
    async start(stage) {
      const [file = "", ...args] = await command(stage.folder);
      let pid = 0;
      let old = 0;
      stage.spawn(file, args).stdout?.on(
        "data",
        (text) => pid = Number(/\d+/.exec(String(text))?.[0]),
      );
      await answers(stage.port);
      return {
        reload() {
          old = pid;
          return Promise.resolve(void process.kill(pid, "SIGHUP"));
        },
        settled: async () =>
          void (waitsForOld && old > 0 &&
            await until("the old process to be gone", () => !isAlive(old))),
      };
    },
  };
}

/** A program that reloads itself, or its workers, on a signal. */
function bySignal(
  name: string,
  signal: NodeJS.Signals,
  start: (stage: Stage) => ChildProcess,
  { hasWebSockets = false, needs }: { hasWebSockets?: boolean; needs?: Tool } = {},
): Subject {
  return {
    name,
    isOurs: false,
    hasWebSockets,
    hasTcp: hasWebSockets,
    needs,
    async start(stage) {
      const { pid } = start(stage);
      await answers(stage.port);
      return { reload: () => Promise.resolve(void process.kill(pid as number, signal)) };
    },
  };
}

/** PM2, as it is installed by npm. */
async function installPm2(): Promise<string> {
  const folder = join(root, `node_modules/.cache/pm2-${PM2}`);
  if (!existsSync(join(folder, "node_modules/pm2"))) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), "{}");
    await run("npm", ["install", `pm2@${PM2}`, "--ignore-scripts", "--no-audit", "--no-fund"], {
      cwd: folder,
    });
  }
  return join(folder, "node_modules/pm2/bin/pm2");
}

/** All that is compared. */
export const subjects: readonly Subject[] = [
  byNewProcess("reload-self, node:http", () => [pinned.node26, "reload_self.mjs"], {
    isOurs: true,
    hasWebSockets: true,
  }),
  byNewProcess(
    "reload-self, Deno.serve",
    () => [pinned.deno, "run", "-A", "--quiet", "native.mjs"],
    {
      isOurs: true,
      hasWebSockets: true,
    },
  ),
  byNewProcess("reload-self, Bun.serve", () => [pinned.bun, "native.mjs"], {
    isOurs: true,
    hasWebSockets: true,
  }),
  {
    name: `PM2 ${PM2}, reload`,
    isOurs: false,
    hasWebSockets: true,
    hasTcp: true,
    async start({ folder, env, port, t }) {
      const pm2 = await installPm2();
      const call = (...args: string[]) =>
        run(pinned.node26, [pm2, ...args], {
          cwd: folder,
          env: { ...env, PATH: `${dirname(pinned.node26)}:${env.PATH}` },
        });
      await call("start", "plain.mjs", "--name", "app", "-i", "1", "--wait-ready");
      cleanUp(t, () => call("kill").catch(() => {}));
      await answers(port);
      return { reload: async () => void await call("reload", "app") };
    },
  },
  bySignal(
    "node:cluster, by hand",
    "SIGHUP",
    (stage) => stage.spawn(pinned.node26, ["cluster.mjs"]),
    { hasWebSockets: true },
  ),
  {
    name: "SO_REUSEPORT restart",
    isOurs: false,
    hasWebSockets: true,
    hasTcp: true,
    async start(stage) {
      const start = () => startPlain(stage, { REUSE_PORT: "1" });
      let current = await start();
      return {
        async reload() {
          const next = await start();
          current.kill("SIGTERM");
          current = next;
        },
      };
    },
  },
  {
    name: "stop and start",
    isOurs: false,
    hasWebSockets: true,
    hasTcp: true,
    async start(stage) {
      const start = () => startPlain(stage);
      let current = await start();
      return {
        async reload() {
          const old = current;
          const ended = new Promise((resolve) => old.once("exit", resolve));
          old.kill("SIGTERM");
          // As systemd does, which is more patient.
          const timer = setTimeout(() => old.kill("SIGKILL"), 5_000);
          await ended;
          clearTimeout(timer);
          current = await start();
        },
      };
    },
  },
  {
    name: "nginx -s reload",
    isOurs: false,
    hasWebSockets: false,
    hasTcp: false,
    needs: { version: "nginx -v", packages: "nginx-light" },
    async start({ folder, port, env, t }) {
      const file = join(folder, "nginx.conf");
      const nginx = (...args: string[]) =>
        run("nginx", ["-c", file, "-p", folder, ...args], { env });
      const write = (version: string) =>
        writeFileSync(
          file,
          `worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/error.log; events {}
           http { access_log off; client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2; fastcgi_temp_path ${folder}/t3;
           uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5; keepalive_requests 1000000;
           server { listen 127.0.0.1:${port}; location / { default_type text/plain; return 200 "${version}"; } } }`,
        );
      let version = 0;
      write(String(version));
      await nginx();
      cleanUp(t, () => nginx("-s", "stop").catch(() => {}));
      await answers(port);
      return {
        async reload() {
          write(String(++version));
          await nginx("-s", "reload");
        },
        pids() {
          const main = Number(readFileSync(join(folder, "nginx.pid"), "utf8"));
          return [main, ...allPids().filter((pid) => parentOf(pid) === main)];
        },
      };
    },
  },
  {
    name: "HAProxy, SIGUSR2",
    isOurs: false,
    hasWebSockets: false,
    hasTcp: false,
    needs: { version: "haproxy -v", packages: "haproxy" },
    async start(stage) {
      const file = join(stage.folder, "haproxy.cfg");
      const write = (version: string) =>
        writeFileSync(
          file,
          `global
  stats socket ${stage.folder}/haproxy.sock mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend all
  bind 127.0.0.1:${stage.port}
  http-request return status 200 content-type text/plain string "${version}"
`,
        );
      let version = 0;
      write(String(version));
      const { pid } = stage.spawn("haproxy", ["-W", "-q", "-f", file]);
      await answers(stage.port);
      return {
        reload() {
          write(String(++version));
          return Promise.resolve(void process.kill(pid as number, "SIGUSR2"));
        },
      };
    },
  },
  bySignal(
    "gunicorn, HUP",
    "SIGHUP",
    (stage) =>
      stage.spawn("gunicorn", [
        "--bind",
        `127.0.0.1:${stage.port}`,
        "--workers",
        "1",
        "--threads",
        "20",
        "--keep-alive",
        "75",
        "--log-level",
        "error",
        "app:application",
      ]),
    { needs: { version: "gunicorn --version", packages: "gunicorn" } },
  ),
  byNewProcess("Go, tableflip", async (folder) => {
    const env = {
      ...process.env,
      GO111MODULE: "off",
      GOPATH: GO_PACKAGES,
      GOCACHE: join(folder, "cache"),
    };
    await run("go", ["build", "-o", "tableflip", "tableflip.go"], { cwd: folder, env });
    return [join(folder, "tableflip")];
  }, {
    waitsForOld: true,
    needs: {
      version: `ls ${GO_PACKAGES}/src/github.com/cloudflare/tableflip > /dev/null && go version`,
      packages: "golang-go golang-github-cloudflare-tableflip-dev",
    },
  }),
];

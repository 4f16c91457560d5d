/** The commands, and their options. */
import process from "node:process";
import { parseArgs, styleText } from "node:util";
import { describeError } from "../src/core/describe_error.ts";
import { AUTO_OPTIONS, prepareAuto } from "./auto.ts";
import {
  CHECK,
  checkOf,
  Failure,
  ModuleError,
  type Option,
  socketsOf,
  time,
  TRIGGERS,
  triggersOf,
  usage,
  type Values,
  wholeNumber,
} from "./options.ts";
import { VERSION } from "./version.ts";

interface Command {
  usage: string;
  summary: string;
  options: Record<string, Option>;
  run(positionals: string[], values: Values): Promise<void>;
}

const HELP: Option = { type: "boolean", short: "h", help: "show this" };

const commands: Record<string, Command> = {
  run: {
    usage: "run [options] -- <command> [arguments]",
    summary:
      "Runs a program under a parent with a constant pid: in containers, under runit, s6, supervisord",
    options: {
      instances: {
        type: "string",
        short: "n",
        value: "<number>",
        help: "processes that share the port, replaced all or none. Default: 1",
      },
      socket: {
        type: "string",
        multiple: true,
        value: "<[host:]port>",
        help:
          "listen here above the program, so that clients wait while it is started again. May be repeated",
      },
      "stop-timeout": {
        type: "string",
        value: "<time>",
        help: "kill what is left so long after a shutdown signal. Default: 30s",
      },
      "max-crashes": {
        type: "string",
        value: "<number>",
        help: "give up after so many crashes in a row. Default: 5",
      },
      ...CHECK,
      ...TRIGGERS,
      ...AUTO_OPTIONS,
    },
    async run(positionals, values) {
      const { checkCommand, run } = await import("./run.ts");
      const { makeWayForReaper } = await import("./instance.ts");
      if (positionals.length === 0) {
        throw new Failure(2, "run: which command? reload-self run -- deno run -A server.ts");
      }
      const stopTimeout = time("stop-timeout", values["stop-timeout"] ?? "30s");
      const maxCrashes = wholeNumber("max-crashes", values["max-crashes"] ?? "5", 1, 1_000_000);
      const check = checkOf(values);
      const sockets = socketsOf(values);
      const flags = triggersOf(values);
      const triggers = flags && usage((await import("./triggers.ts")).prepareTriggers, flags);
      const instances = wholeNumber("instances", values.instances ?? "1", 1, 1_000);
      checkCommand(positionals);
      const why = makeWayForReaper();
      if (why !== undefined) {
        log(
          `processes that lose their parent stay zombies, because this one cannot make way for a shell: ${why}`,
        );
      }
      const command = prepareAuto(positionals, values, log);
      // All package managers set it. They end at SIGHUP, and pass nothing on.
      if (process.env.npm_lifecycle_event !== undefined && process.pid !== 1) {
        log(
          `\`kill -HUP ${process.pid}\` reloads; the npm, pnpm or yarn above passes no SIGHUP on`,
        );
      }
      process.exit(
        await run(command, { stopTimeout, maxCrashes, instances, sockets, check, triggers, log }),
      );
    },
  },
  serve: {
    usage: "serve [options] <module>",
    summary: "Serves a module with `export default { fetch }`, and reloads it on SIGHUP",
    options: {
      port: {
        type: "string",
        short: "p",
        value: "<port>",
        help: "the TCP port. Default: the variable PORT, or 8000",
      },
      host: {
        type: "string",
        value: "<address>",
        help: "the address. Default: the variable HOST, or 0.0.0.0",
      },
      unix: { type: "string", value: "<path>", help: "a unix socket, instead of a port" },
      "pid-file": {
        type: "string",
        value: "<path>",
        help: "keep the pid of the process in charge there",
      },
      ...CHECK,
      ...TRIGGERS,
    },
    async run(positionals, values) {
      const { port, host, unix, "pid-file": pidFile } = values;
      const check = checkOf(values);
      const [module, ...more] = positionals;
      if (module === undefined || more.length > 0) {
        throw new Failure(2, "serve: give it one module, such as main.ts");
      }
      if (port !== undefined && unix !== undefined) {
        throw new Failure(2, "serve: give it a port or a unix socket, not both");
      }
      const triggers = triggersOf(values);
      const begin = triggers && (await import("./serve_triggers.ts")).prepareServed(triggers);
      const { serveModule } = await import("./serve.ts");
      await serveModule(module, {
        ...(typeof port === "string" && { port: wholeNumber("port", port, 0, 65_535) }),
        ...(typeof host === "string" && { host }),
        ...(typeof unix === "string" && { unix }),
        listen: {
          ...(typeof pidFile === "string" && { pidFile }),
          ...(check && { check: check.url, checkTimeout: check.timeout }),
        },
      }, begin);
    },
  },
  reload: {
    usage: "reload [options] <pid | pid file>",
    summary: "Reloads a program, and waits for the outcome",
    options: {
      timeout: {
        type: "string",
        short: "t",
        value: "<time>",
        help: "how long to wait. Default: 120s",
      },
    },
    async run(positionals, values) {
      const { reload } = await import("./reload.ts");
      const { from, to, generation, milliseconds } = await reload(
        oneTarget("reload", positionals),
        time("timeout", values.timeout ?? "120s"),
      );
      const which = generation === undefined ? "" : ` (generation ${generation})`;
      console.log(
        `${paint("green", "reloaded")}: pid ${from} → ${to}${which} in ${milliseconds} ms`,
      );
    },
  },
  status: {
    usage: "status [options] <pid | pid file>",
    summary: "Shows what a program is doing",
    options: { json: { type: "boolean", help: "as JSON" } },
    async run(positionals, { json }) {
      const [{ pidOf, statusOf }, { describeStatus }] = await Promise.all([
        import("./target.ts"),
        import("./status.ts"),
      ]);
      const status = statusOf(pidOf(oneTarget("status", positionals)));
      console.log(
        json === true ? JSON.stringify(status) : describeStatus(status, Date.now()).join("\n"),
      );
    },
  },
  doctor: {
    usage: "doctor",
    summary: "Checks what a reload can do here, with these permissions, and what to add",
    options: {},
    async run(positionals) {
      if (positionals[0] !== undefined) throw new Failure(2, "doctor: it takes no arguments");
      const [{ diagnose }, { canSteer }, { canTransplant }] = await Promise.all([
        import("../adapters/tools/diagnosis.ts"),
        import("../src/linux/steering.ts"),
        import("../src/linux/transplant_check.ts"),
      ]);
      const findings = await diagnose({ canSteer, canTransplant });
      const width = Math.max(...findings.map(({ subject }) => subject.length));
      for (const { subject, ok, text, advice } of findings) {
        const mark = ok === undefined ? "  " : ok ? paint("green", "ok") : paint("red", "!!");
        console.log(`${mark}  ${subject.padEnd(width)}  ${text}`);
        if (advice !== undefined) console.log(`${" ".repeat(width + 6)}${paint("yellow", advice)}`);
      }
      process.exitCode = findings.some(({ ok }) => ok === false) ? 1 : 0;
    },
  },
};

function log(line: string): void {
  console.error(`reload-self: process ${process.pid}: ${line}`);
}

/** Colours only where the stream is a terminal that shows them. */
function paint(
  color: "green" | "red" | "yellow" | "bold",
  text: string,
  stream: NodeJS.WriteStream = process.stdout,
): string {
  return styleText(color, text, { stream });
}

function oneTarget(command: string, positionals: string[]): string {
  const [target, ...more] = positionals;
  if (target === undefined || more.length > 0) {
    throw new Failure(2, `${command}: give it one pid, or the path of a pid file`);
  }
  return target;
}

function describeOptions(options: Record<string, Option>): string[] {
  const lines = Object.entries({ ...options, help: HELP }).map(([name, { short, value, help }]) =>
    [
      `${short === undefined ? "    " : `-${short}, `}--${name}${
        value === undefined ? "" : ` ${value}`
      }`,
      help,
    ] as const
  );
  const width = Math.max(...lines.map(([name]) => name.length));
  return lines.map(([name, help]) => `  ${name.padEnd(width)}  ${help}`);
}

function help(): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  return [
    `${
      paint("bold", "reload-self")
    } ${VERSION}: programs that replace themselves without losing a connection`,
    "",
    "reload-self <command> [options]",
    "",
    ...Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    "reload-self <command> --help shows the options of a command; --version shows the version.",
  ].join("\n");
}

/** Parses the arguments of a command. Those that follow the command of `run` belong to it. */
function parse(
  name: string,
  args: string[],
  { options }: Command,
): { positionals: string[]; values: Values } {
  const known = { ...options, help: HELP, version: { type: "boolean" as const } };
  const { tokens } = parseArgs({ args, options: known, strict: false, tokens: true });
  const end = name === "run"
    ? tokens.find(({ kind }) => kind === "positional")?.index ?? args.length
    : args.length;
  try {
    const parsed = parseArgs({ args: args.slice(0, end), options: known, allowPositionals: true });
    return { positionals: [...parsed.positionals, ...args.slice(end)], values: parsed.values };
  } catch (error) {
    throw new Failure(
      2,
      `${name}: ${describeParseError(error, known)}; see reload-self ${name} --help`,
    );
  }
}

/** What util.parseArgs() refuses, without its advice, which is for programmers. */
function describeParseError(error: unknown, options: Record<string, { type: string }>): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ERR_PARSE_ARGS_UNKNOWN_OPTION") {
    return `there is no option ${/'(--?[\w-]+)/.exec(message)?.[1]}`;
  }
  const name = /--([\w-]+)/.exec(message)?.[1] ?? "";
  if (code !== "ERR_PARSE_ARGS_INVALID_OPTION_VALUE") return describeError(error);
  return options[name]?.type === "boolean" ? `--${name} takes no value` : `--${name} needs a value`;
}

async function execute([name = "", ...args]: string[]): Promise<void> {
  if (name === "--version" || name === "-V") return console.log(VERSION);
  if (name === "" || name === "--help" || name === "-h" || name === "help") {
    console.log(help());
    if (name === "") process.exitCode = 2;
    return;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) {
    throw new Failure(
      2,
      `there is no ${name.startsWith("-") ? "option" : "command"} ${name}; see --help`,
    );
  }
  const { positionals, values } = parse(name, args, command);
  if (values.version === true) return console.log(VERSION);
  if (values.help === true) {
    console.log(
      [`reload-self ${command.usage}`, "", command.summary, "", ...describeOptions(command.options)]
        .join("\n"),
    );
    return;
  }
  await command.run(positionals, values);
}

/** Executes a command line, and ends the process where that fails. */
export async function main(args: string[]): Promise<void> {
  try {
    await execute(args);
  } catch (error) {
    if (error instanceof ModuleError) throw error.cause;
    console.error(`${paint("red", "reload-self", process.stderr)}: ${describeError(error)}`);
    process.exit(error instanceof Failure ? error.exitCode : 1);
  }
}

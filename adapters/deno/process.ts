/**
 * Starting processes with Deno's own functions. Node's cost a new process 20 ms, which it takes to
 * make the channel that it has inherited: Deno loads all of Node's `process` for that.
 */
import type { Child, Spawn } from "../shared/node_process.ts";
import { originalOf } from "../../src/core/marks.ts";
import { streamChannel } from "./channel.ts";
import { CHANNEL_VARIABLE } from "../../src/protocol/handshake.ts";
import { attempt } from "../../src/core/attempt.ts";
import type { ExitStatus } from "../../src/core/adapter.ts";
import type { DenoNamespace } from "./namespace.ts";

/**
 * Starts processes with Deno.Command, which cannot pass a connection on. Instead the new process
 * gets a path that cannot be guessed, in a folder that only this user can enter; one connection is
 * accepted there, then the path is removed. The name that the executable was called by is lost.
 *
 * @returns `undefined` where no such socket can be made: the path is too long, the disk is full.
 */
export function spawnWithDeno(deno: DenoNamespace, folder: string): Spawn | undefined {
  const path = `${folder}/${crypto.randomUUID()}`;
  let listener: ReturnType<DenoNamespace["listen"]>;
  try {
    // A preload warns of the program's own.
    listener = originalOf(deno.listen)({ transport: "unix", path });
  } catch {
    return undefined;
  }
  let listening = true;
  const stop = () => {
    if (!listening) return;
    listening = false;
    listener.close();
    attempt(() => deno.removeSync(path)); // Deno 2.9 has done so.
  };
  return ({ file, args }, cwd, env, hasStdin): Child => {
    try {
      const variables = Object.entries({ ...env, [CHANNEL_VARIABLE]: path }).filter((
        entry,
      ): entry is [string, string] => entry[1] !== undefined);
      const child = new deno.Command(file, {
        args,
        cwd,
        env: Object.fromEntries(variables),
        clearEnv: true,
        detached: true,
        stdin: hasStdin ? "piped" : "null",
        stdout: "inherit",
        stderr: "inherit",
      }).spawn();
      const accepted = listener.accept().finally(stop);
      const exited = child.status.then(({ code, signal }): ExitStatus => {
        stop(); // It will not connect any more.
        return { code: signal === null ? code : null, signal };
      });
      return {
        pid: child.pid,
        channel: streamChannel(accepted),
        exited,
        async tell(text) {
          try {
            await child.stdin.getWriter().write(new TextEncoder().encode(text));
            return true;
          } catch {
            return false; // It is gone.
          }
        },
        // Deno throws when it has ended, which `exited` reports a moment later.
        kill: () => void attempt(() => child.kill("SIGKILL")),
        unref() {
          child.unref();
          accepted.then((connection) => connection.unref()).catch(() => {});
        },
      };
    } catch (error) {
      stop();
      throw error;
    }
  };
}

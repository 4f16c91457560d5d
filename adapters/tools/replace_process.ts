/** execve(2): another program in the place of this one, with its pid. */
import process from "node:process";
import type { DenoNamespace } from "../deno/namespace.ts";
import { openFirst } from "../shared/libc.ts";

/** Does not return when it works; otherwise returns the reason. The environment stays. */
export function replaceProcess(file: string, args: readonly string[]): string {
  const { execve } = process as { execve?: (file: string, args: readonly string[], env: NodeJS.ProcessEnv) => void };
  const { Deno } = globalThis as unknown as { Deno?: DenoNamespace };
  try {
    if (Deno === undefined) {
      if (execve === undefined) return "Node has no process.execve before 22.15";
      execve.call(process, file, args, process.env);
    } else {
      const library = openFirst((name) => Deno.dlopen(name, { execv: { parameters: ["buffer", "buffer"], result: "i32" } }));
      const encode = (text: string) => new TextEncoder().encode(`${text}\0`);
      const strings = args.map(encode);
      const pointers = new BigUint64Array([
        ...strings.map((text) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(text))),
        0n,
      ]);
      const { execv } = (library?.symbols ?? {}) as unknown as { execv?: (file: Uint8Array, args: BigUint64Array) => number };
      execv?.(encode(file), pointers);
    }
    return "the C library refused it";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

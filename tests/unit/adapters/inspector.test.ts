import assert from "node:assert/strict";
import { test } from "node:test";
import { debuggerPorts } from "../../../adapters/shared/inspector.ts";

test("the ports of a debugger, from the ways to ask for it", () => {
  for (
    const [args, url, ports] of [
      [["run", "-A", "main.ts"], undefined, []],
      [["--inspect"], undefined, [9229, 6499]],
      [["--inspect=4000"], undefined, [4000]],
      [["--inspect-brk=127.0.0.1:4001", "--inspect-wait=[::1]:4002"], undefined, [4001, 4002]],
      [["--inspect=localhost"], undefined, [9229, 6499]],
      [["--inspect=127.0.0.1:4003/path"], undefined, [4003]],
      [[], "ws://127.0.0.1:4004/debug", [4004]],
      [["main.ts", "8000"], undefined, []],
    ] as const
  ) assert.deepEqual([...debuggerPorts(args, url)], ports, args.join(" "));
});

/** Wrong calls of the token's members for sockets. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BindableServer, BindOptions, Token } from "../../../src/core/token.ts";
import { createMachine, createServer } from "../../support/machine.ts";
import { createWorld } from "../../support/world.ts";

function createToken(): Token {
  const machine = createMachine(() => true, {});
  return createWorld({ machine: machine.adapter }).begin().token as Token;
}

const wrong: [what: string, options: unknown, message: RegExp][] = [
  ["no options", undefined, /bind: the options must be an object, not undefined/],
  ["an unknown option", { port: 1, hots: "x" }, /bind: unknown option hots; known: port, host/],
  ["nothing to listen on", {}, /bind: give it a port, a path, or the name of a socket/],
  ["a port and a path", { port: 1, path: "/x" }, /bind: give it a port or a path, not both/],
  [
    "a choice that is none",
    { port: 8000, moveIdle: "no" },
    /bind: moveIdle must be true or false, not "no"/,
  ],
  [
    "a port that is none",
    { port: 65_536 },
    /bind: port must be a whole number from 0 to 65535, not 65536/,
  ],
  ["a string that is no port", { port: "80x" }, /bind: port must be a whole number .* not "80x"/],
  ["a variable that is empty", { port: "" }, /bind: port must be a whole number .* not ""/],
  [
    "a string that is too large",
    { port: "65536" },
    /bind: port must be a whole number .* not "65536"/,
  ],
  ["an empty host", { port: 1, host: "" }, /bind: host must be a string, not ""/],
  [
    "a socket of systemd's that is not there",
    { name: "admin" },
    /bind: no socket of the name admin was handed to this process/,
  ],
  ["a path that is too long", { path: `/${"x".repeat(200)}` }, /path: .* is too long/],
];
for (const [what, options, message] of wrong) {
  test(`bind: ${what}`, async () => {
    await assert.rejects(createToken().bind(createServer(), options as BindOptions), {
      name: "TypeError",
      message,
    });
  });
}

test("bind: a server that is none", async () => {
  const message =
    /bind: the server must be one of node:net, .* not an object; Deno.serve and Bun.serve are adopted/;
  await assert.rejects(createToken().bind({} as BindableServer, { port: 1 }), {
    name: "TypeError",
    message,
  });
});

test("bind: a string of digits is a port, the same one as the number", async () => {
  const token = createToken();
  await token.bind(createServer(), { port: "3000" });
  await assert.rejects(
    token.bind(createServer(), { port: 3000 }),
    /bind: this process listens on \*:3000 already/,
  );
});

test("fetch, webSocket, path: what is none", async () => {
  const token = createToken();
  assert.throws(() => token.fetch("x" as never), {
    name: "TypeError",
    message: `fetch: the handler must be a function, not "x"`,
  });
  assert.throws(
    () => token.fetch({ fetch() {} } as never),
    /fetch: .* not an object; write `token\.fetch\(app\.fetch\)`/,
  );
  assert.throws(() => token.webSocket("x" as never), {
    name: "TypeError",
    message: /webSocket: it must be a WebSocket, not "x"/,
  });
  await assert.rejects(token.path(undefined as never), {
    name: "TypeError",
    message: /path: it must be a string, not undefined/,
  });
});

test("bind: an address twice, a server twice, and after the end", async () => {
  const token = createToken();
  const server = createServer();
  await token.bind(server, { port: 1 });
  await assert.rejects(
    token.bind(createServer(), { port: 1 }),
    /bind: this process listens on \*:1 already/,
  );
  await assert.rejects(token.bind(server, { port: 2 }), /bind: this server is bound already/);
  token.cancel();
  await assert.rejects(token.bind(createServer(), { port: 3 }), /bind: this process is cancelled/);
});

test("bind: after an error the server can be bound once more", async () => {
  const token = createToken();
  const server = createServer();
  await token.bind(createServer(), { port: 1 });
  await assert.rejects(token.bind(server, { port: 1 }));
  await token.bind(server, { port: 2 });
});

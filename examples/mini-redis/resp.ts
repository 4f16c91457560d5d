/**
 * The Redis protocol, version 2: https://redis.io/docs/latest/develop/reference/protocol-spec/.
 * Text holds bytes here, one a character (latin1). The parsers on npm keep a half command inside;
 * here what is left of the text is all there is to hand over.
 */

/** A reply, already in the form in which it is sent. */
export type Reply = string;

export const simple = (text: string): Reply => `+${text}\r\n`;
export const error = (text: string): Reply => `-${text}\r\n`;
export const integer = (value: number): Reply => `:${value}\r\n`;
export const bulk = (text: string | undefined): Reply =>
  text === undefined ? "$-1\r\n" : `$${text.length}\r\n${text}\r\n`;
export const array = (replies: readonly Reply[]): Reply =>
  `*${replies.length}\r\n${replies.join("")}`;

/** What a client sent is no command. */
export class ProtocolError extends Error {}

const MAX_BYTES = 512 * 2 ** 20;
const MAX_ARGUMENTS = 1_048_576;

/**
 * The first command of a text, and where the next one begins; `undefined` while a part of it is
 * missing.
 */
export function parseCommand(
  text: string,
  from: number,
): { command: string[]; next: number } | undefined {
  let at = from;

  /** The line that begins here. Goes on behind it. */
  function line(): string | undefined {
    const end = text.indexOf("\r\n", at);
    if (end < 0) return undefined;
    const found = text.slice(at, end);
    at = end + 2;
    return found;
  }

  const first = line();
  if (first === undefined) return undefined;
  // As a person types it.
  if (!first.startsWith("*")) return { command: first.split(" ").filter(Boolean), next: at };
  const command: string[] = [];
  for (let count = parseLength(first, "*", MAX_ARGUMENTS); count > 0; count--) {
    const header = line();
    if (header === undefined) return undefined;
    const end = at + parseLength(header, "$", MAX_BYTES);
    if (text.length < end + 2) return undefined;
    command.push(text.slice(at, end));
    at = end + 2;
  }
  return { command, next: at };
}

function parseLength(line: string, sign: string, most: number): number {
  const length = Number(line.slice(1));
  if (
    line[0] === sign && line.length > 1 && Number.isInteger(length) && length >= 0 && length <= most
  ) return length;
  throw new ProtocolError(`expected '${sign}' and a length, got '${line.slice(0, 20)}'`);
}

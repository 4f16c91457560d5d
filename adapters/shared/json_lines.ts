/**
 * Splits text that comes in pieces into messages, a line of JSON each. A line that is no JSON is received as `undefined`, which no receiver
 * understands.
 */
export function createLineReader(receive: (message: unknown) => void): (piece: string) => void {
  let line = "";
  return (piece) => {
    const [first = "", ...others] = piece.split("\n");
    line += first;
    for (const next of others) {
      receive(parse(line));
      line = next;
    }
  };
}

/** A message as a line. */
export function formatLine(message: unknown): string {
  return `${JSON.stringify(message)}\n`;
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** What a server under load answers: every byte can be told from the request. */

/** `size` bytes of text that depend on the seed and on where they are. */
export function pattern(seed: number, size: number): string {
  let text = "";
  for (let line = 0; text.length < size; line++) {
    text += `${seed}/${line}:${(seed * 31 + line * 17) % 9973};`;
  }
  return text.slice(0, size);
}

/** The pieces of a streamed answer. */
export function pieces(text: string, count: number): string[] {
  const length = Math.ceil(text.length / count);
  return Array.from({ length: count }, (_, i) => text.slice(i * length, (i + 1) * length));
}

/** What a request asks for: `/SEED/SIZE/PIECES/MILLISECONDS`, the last between the pieces. */
export interface Ask {
  seed: number;
  size: number;
  pieces: number;
  delay: number;
}

/** The path of a request. */
export function pathOf({ seed, size, pieces, delay }: Ask): string {
  return `/${seed}/${size}/${pieces}/${delay}`;
}

/**
 * Reads the path of a request. Not by `map(Number)`: engines compile what is built in for those who
 * call it, and Bun's is slower by a per cent of the whole answer in a program that has used `map`
 * otherwise, as every one does that is more than a benchmark.
 */
export function parsePath(path: string): Ask {
  const [, seed = 0, size = 0, pieces = 1, delay = 0] = path.split("/");
  return { seed: Number(seed), size: Number(size), pieces: Number(pieces), delay: Number(delay) };
}

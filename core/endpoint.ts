/** The address and the port of a socket as /proc/net/tcp shows them: numbers of 32 bits in the byte order of the machine; proc_net(5). */
export function parseEndpoint(field: string): { bytes: Uint8Array; port: number } {
  const [words = "", port = ""] = field.split(":");
  const numbers = Uint32Array.from(words.match(/.{8}/g) ?? [], (word) => parseInt(word, 16));
  return { bytes: new Uint8Array(numbers.buffer), port: parseInt(port, 16) };
}

/**
 * Has a part of /proc/net/tcp come to sockets that do not listen? Those that do come first; behind them a busy server has a hundred
 * thousand that have just been closed.
 */
export function isBeyondListeners(read: string): boolean {
  return /^ *\d+: [0-9A-F]+:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} (?!0A)/m.test(read);
}

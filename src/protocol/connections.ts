/** What the application has to say of a connection, in a message: a JSON value or bytes. */

/** Bytes as text. */
export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** The bytes of a text from a message; `undefined` where it is none. */
export function fromBase64(text: unknown): Uint8Array | undefined {
  let characters: string;
  try {
    characters = atob(text as string);
  } catch {
    return undefined;
  }
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** The fields of a message for a session. */
export function packSession(session: unknown): { session?: unknown; bytes?: string } {
  return session instanceof Uint8Array ? { bytes: toBase64(session) } : { session };
}

/** The session in a message. */
export function parseSession({ session, bytes }: { session?: unknown; bytes?: unknown }): unknown {
  return bytes === undefined ? session : fromBase64(bytes);
}

/** One after the other. */
export function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** What is missing when a new process has not become ready in time. */
export function notListening(addresses: readonly string[]): string {
  return `it did not listen on ${
    addresses.join(", ")
  }, as this process does; if that is meant to be, let it call token.ready()`;
}

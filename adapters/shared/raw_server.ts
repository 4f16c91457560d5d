/** Listening sockets of a runtime as servers that are adopted: their connections are the application's. */
import type { AdoptedServer, Placement } from "../../src/core/native.ts";

/**
 * Such a server, which was opened.
 *
 * @param end As {@linkcode AdoptedServer.endAccepting}.
 */
export function rawServer(
  { key, activated }: Placement,
  { path, own, reported }: Pick<AdoptedServer, "path" | "own" | "reported">,
  end: () => void,
): AdoptedServer {
  return {
    key,
    path,
    own,
    reported,
    connections: undefined,
    activated: activated?.fd,
    setClosing() {},
    finish: (idle) => idle,
    endAccepting: end,
    cut: () => 0,
  };
}

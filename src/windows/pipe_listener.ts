/** The most characters of a request. */
const MAX_REQUEST = 1_024;

/**
 * Answers requests on a named pipe, a line each. Windows lets only this user, the administrators and the system write to it;
 * CreateNamedPipe.
 */
export async function listenOnPipe(name: string, answer: (request: string) => Promise<string>): Promise<void> {
  const { createServer } = await import("node:net");
  const server = createServer((socket) => {
    let text = "";
    socket.setEncoding("utf8");
    socket.on("error", () => {}); // It is gone: nobody waits for an answer.
    socket.on("data", async (data: string) => {
      const before = text;
      text += data;
      if (text.length > MAX_REQUEST) return socket.destroy();
      if (before.includes("\n") || !text.includes("\n")) return;
      socket.end(`${await answer(text.slice(0, text.indexOf("\n")))}\n`);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(`\\\\.\\pipe\\${name}`, resolve);
  });
  server.unref();
}

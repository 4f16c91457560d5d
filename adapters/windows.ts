/** What is different on Windows, on all three runtimes. */

/** Questions are short: whoever says more is not one of ours. */
const LONGEST = 1_024;

/**
 * Answers questions on a named pipe. Windows lets only this user, the administrators and the system write to it; CreateNamedPipe.
 */
export async function answerOnPipe(name: string, answer: (question: string) => Promise<string>): Promise<void> {
  const { createServer } = await import("node:net");
  const server = createServer((socket) => {
    let text = "";
    socket.setEncoding("utf8");
    socket.on("error", () => {}); // It is gone: nobody to answer.
    socket.on("data", async (data: string) => {
      const before = text;
      text += data;
      if (text.length > LONGEST) return socket.destroy();
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

/** The folder for status files: below the user's own, which nobody else may look into. */
export function windowsFolder(localAppData: string | undefined, make: (path: string) => unknown): string | undefined {
  if (!localAppData) return undefined;
  const path = `${localAppData}\\reload-self`;
  try {
    make(path);
    return path;
  } catch {
    return undefined;
  }
}

/** The library that has AttachConsole, and its name as Deno and Bun both need it. */
export const KERNEL = "kernel32.dll";

/**
 * Puts a successor on the console of its predecessor, so that CTRL_BREAK reaches it as it reached that one: a detached process is on none.
 * Where there is no console, or no foreign function calls (Node), `reload-self reload` is what remains.
 */
export async function attachConsole(
  parent: number,
  open: () => { AttachConsole(pid: number): number } | Promise<{ AttachConsole(pid: number): number }>,
): Promise<void> {
  try {
    (await open()).AttachConsole(parent);
  } catch {
    // Foreign function calls are not allowed.
  }
}

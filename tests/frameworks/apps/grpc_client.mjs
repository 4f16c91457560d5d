// Asks again and again, over one channel and over a new one each time. What is not begun is sent again by gRPC itself.
import grpc from "@grpc/grpc-js";
const address = `127.0.0.1:${process.env.PORT}`;
const errors = {};
const seen = new Set();
let answers = 0;
let isOver = false;
process.on("SIGTERM", () => isOver = true);

function ask(client) {
  return new Promise((resolve) => {
    const text = (value) => value.toString();
    client.makeUnaryRequest("/test.Test/Ask", Buffer.from, text, "who", (error, answer) => {
      if (error) errors[error.message] = (errors[error.message] ?? 0) + 1;
      else {
        answers++;
        const pid = Number(/\d+/.exec(answer)[0]);
        if (!seen.has(pid)) console.log(JSON.stringify({ type: "answer", pid }));
        seen.add(pid);
      }
      setTimeout(resolve, 2);
    });
  });
}

async function kept() {
  const client = new grpc.Client(address, grpc.credentials.createInsecure());
  while (!isOver) await ask(client);
  client.close();
}
async function fresh() {
  while (!isOver) {
    const client = new grpc.Client(address, grpc.credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
    });
    await ask(client);
    client.close();
  }
}
await Promise.all([kept(), kept(), fresh(), fresh()]);
console.log(JSON.stringify({ type: "end", answers, errors }));

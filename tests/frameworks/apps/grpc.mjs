import grpc from "@grpc/grpc-js";
const service = {
  ask: {
    path: "/test.Test/Ask",
    requestStream: false,
    responseStream: false,
    requestSerialize: (text) => Buffer.from(text),
    requestDeserialize: (bytes) => bytes.toString(),
    responseSerialize: (text) => Buffer.from(text),
    responseDeserialize: (bytes) => bytes.toString(),
  },
};
const server = new grpc.Server();
server.addService(service, { ask: (_call, callback) => callback(null, `pid ${process.pid}`) });
server.bindAsync(
  `127.0.0.1:${process.env.PORT}`,
  grpc.ServerCredentials.createInsecure(),
  (error) => {
    if (error) throw error;
  },
);

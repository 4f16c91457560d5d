import { createServer } from "node:http";
import { Server } from "socket.io";
const server = createServer((_request, response) => response.end(`pid ${process.pid}`));
new Server(server).on("connection", (socket) => socket.emit("hello", process.pid));
server.listen(process.env.PORT);

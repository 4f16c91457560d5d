Bun.serve({
  port: process.env.PORT,
  routes: {
    "/route": () => new Response(`pid ${process.pid}`),
    "/static": new Response(`pid ${process.pid}`),
  },
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response(`pid ${process.pid}`);
  },
  websocket: {
    open: (socket) => void socket.send(`pid ${process.pid}`),
    message: (socket, message) => void socket.send(message),
  },
});

import { createServer } from "node:http";
createServer((_request, response) => response.end(`pid ${process.pid}`)).listen(process.env.PORT);

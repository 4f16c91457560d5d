import "reflect-metadata";
import { Controller, Get, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { FastifyAdapter } from "@nestjs/platform-fastify";

class Root {
  answer() {
    return `pid ${process.pid}`;
  }
}
Get()(Root.prototype, "answer", Object.getOwnPropertyDescriptor(Root.prototype, "answer"));
Controller()(Root);
class App {}
Module({ controllers: [Root] })(App);

const app = await NestFactory.create(App, new FastifyAdapter(), { logger: false });
app.enableShutdownHooks(); // Of all signals, SIGHUP too: with plain listen() each reload would close the server.
await app.listen(process.env.PORT);

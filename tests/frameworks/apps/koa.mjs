import Koa from "koa";
const app = new Koa();
app.use((context) => context.body = `pid ${process.pid}`);
app.listen(process.env.PORT);

import express from "express";
const app = express();
app.get("/", (_request, response) => response.send(`pid ${process.pid}`));
app.listen(process.env.PORT, (error) => {
  if (error) throw error;
});

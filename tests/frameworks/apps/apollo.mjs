import { ApolloServer } from "@apollo/server";
import { startStandaloneServer } from "@apollo/server/standalone";
const server = new ApolloServer({
  typeDefs: "type Query { pid: String }",
  resolvers: { Query: { pid: () => `pid ${process.pid}` } },
  csrfPrevention: false,
});
await startStandaloneServer(server, { listen: { port: Number(process.env.PORT) } });

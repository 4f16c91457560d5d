import { defineNitroConfig } from "nitro/config";

export default defineNitroConfig({
  preset: "standard", // A module that exports fetch.
  serveStatic: true, // The files of `public`, too.
  // All in the build: a release is one folder, and Deno can serve it, too. Not Bun: there Nitro 3.0
  // loses the path.
  noExternals: true,
});

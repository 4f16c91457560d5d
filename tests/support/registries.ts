/** Registries that have this package, and nothing else but what it depends on. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { globSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DEPENDENCIES, root, run } from "./package.ts";

/** A registry. */
export interface Registry {
  readonly url: string;
  /** The files of the package that were asked for. */
  readonly requested: ReadonlySet<string>;
  close(): void;
}

async function start(requested: ReadonlySet<string>, listener: RequestListener): Promise<Registry> {
  const server: Server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/`, requested, close: () => server.close() };
}

/** Serves a built package as JSR does. https://jsr.io/docs/api#jsr-registry-api */
export function startJsr(dist: string, version: string): Promise<Registry> {
  const requested = new Set<string>();
  const { exports, imports } = JSON.parse(readFileSync(join(dist, "jsr.json"), "utf8"));
  const files = globSync("**", { cwd: dist }).filter((name) => statSync(join(dist, name)).isFile());
  /** A file as it is published: JSR replaces what only the import map of the package knows. */
  const read = (name: string) => {
    let text = readFileSync(join(dist, name), "utf8");
    for (const [from, to] of Object.entries<string>(imports)) {
      text = text.replaceAll(`"${from}"`, `"${to}"`);
    }
    return text;
  };
  const manifest = Object.fromEntries(files.map((name) => {
    const text = read(name);
    const checksum = `sha256-${createHash("sha256").update(text).digest("hex")}`;
    return [`/${name}`, { size: Buffer.byteLength(text), checksum }];
  }));
  const scope = "/@js0/reload-self";
  const answers: Record<string, () => string> = {
    [`${scope}/meta.json`]: () =>
      JSON.stringify({
        scope: "js0",
        name: "reload-self",
        latest: version,
        versions: { [version]: {} },
      }),
    [`${scope}/${version}_meta.json`]: () => JSON.stringify({ manifest, exports }),
    ...Object.fromEntries(files.map((name) => [`${scope}/${version}/${name}`, () => read(name)])),
  };
  return start(requested, ({ url = "", headers }, response) => {
    const answer = answers[url];
    if (answer === undefined) return void response.writeHead(404).end();
    assert.doesNotMatch(headers.accept ?? "", /text\/html/);
    requested.add(url.replace(`${scope}/`, ""));
    const type = /\.(js|ts)$/.exec(url)?.[1];
    response.setHeader(
      "content-type",
      type === "js" ? "text/javascript" : type === "ts" ? "text/typescript" : "application/json",
    );
    response.end(answer());
  });
}

/**
 * Serves a built package, and those that it depends on, as npm does. Its tarballs are made in the
 * folder.
 */
export async function startNpm(dist: string, folder: string): Promise<Registry> {
  const requested = new Set<string>();
  const packages = new Map<string, { manifest: { version: string }; tarball: Buffer }>();
  for (
    const [i, source] of [dist, ...DEPENDENCIES.map((name) => join(root, "node_modules", name))]
      .entries()
  ) {
    const target = join(folder, `tarball-${i}`);
    mkdirSync(target);
    await run("npm", ["pack", source, "--ignore-scripts", "--pack-destination", target]);
    const manifest = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
    packages.set(manifest.name, {
      manifest,
      tarball: readFileSync(join(target, readdirSync(target)[0] as string)),
    });
  }
  return start(requested, ({ url = "", headers }, response) => {
    const name = decodeURIComponent(url.slice(1)).replace(/\.tgz$/, "");
    const found = packages.get(name);
    if (found === undefined) return void response.writeHead(404).end();
    requested.add(name);
    const { manifest, tarball } = found;
    if (url.endsWith(".tgz")) return void response.end(tarball);
    const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
    const dist = { tarball: `http://${headers.host}/${encodeURIComponent(name)}.tgz`, integrity };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({
      name,
      "dist-tags": { latest: manifest.version },
      versions: { [manifest.version]: { ...manifest, dist } },
    }));
  });
}

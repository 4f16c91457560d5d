import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The first version that knows Type=notify-reload. */
const WANTED = 253;
/** Debian 12 has 252. These are of its backports, with their SHA-256. */
const VERSION = "254.26-1~bpo12+1";
const POOL = "http://deb.debian.org/debian/pool/main/s/systemd";
const PACKAGES = {
  systemd: "f55abada0c5c0409f7323e3deecb5d837ecfae75a31524133ac41302d41eff54",
  "libsystemd-shared": "4b1ab8da02aea748cf3fbd75ec6a2734d92ae4e1f287afb33e2025f971a3058a",
  libsystemd0: "fd5c0551ac347ee7da585fe23c2d4c18ea1ceeef831ffb251e9349ae60268398",
};

/**
 * A folder of files of a systemd that knows Type=notify-reload, to be laid over this machine's;
 * without one where this machine's knows it. Or it says why there is none to be had.
 */
export async function newerSystemd(): Promise<{ layer?: string } | string> {
  const present = await run("systemctl", ["--version"]).then(
    ({ stdout }) => Number(/\d+/.exec(stdout)),
    () => 0,
  );
  if (present >= WANTED) return {};
  const cache = fileURLToPath(new URL("../../node_modules/.cache/", import.meta.url));
  const folder = join(cache, `reload-self-systemd-${VERSION}`);
  if (existsSync(folder)) return { layer: folder };
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, "systemd-"));
  try {
    const made = join(work, "layer");
    for (const [name, hash] of Object.entries(PACKAGES)) {
      const file = join(work, `${name}.deb`);
      const response = await fetch(`${POOL}/${name}_${VERSION}_amd64.deb`);
      if (!response.ok) throw new Error(`${response.url}: ${response.status}`);
      const bytes = new Uint8Array(await response.arrayBuffer());
      const found = createHash("sha256").update(bytes).digest("hex");
      if (found !== hash) throw new Error(`${response.url} has the SHA-256 ${found}, not ${hash}`);
      writeFileSync(file, bytes);
      await run("dpkg-deb", ["-x", file, made]);
    }
    // Links to below /usr on the machine: a folder would hide them.
    for (const name of ["bin", "sbin", "lib"].filter((name) => existsSync(join(made, name)))) {
      cpSync(join(made, name), join(made, "usr", name), {
        recursive: true,
        verbatimSymlinks: true,
      });
      rmSync(join(made, name), { recursive: true });
    }
    renameSync(made, folder);
    return { layer: folder };
  } catch (error) {
    return `Type=notify-reload takes systemd ${WANTED}; this is ${present}, and no newer one can be had: ${error}`;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

import { execFileSync } from "node:child_process";
import process from "node:process";

/**
 * Why a test cannot run that needs a program of Debian's; `false` where it can. CI installs them:
 * there none may be missing.
 */
export function missing(program: string, debianPackage: string): string | false {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`]);
    return false;
  } catch {
    const reason = `${program} is not installed: apt-get install ${debianPackage}`;
    if (process.env.CI) throw new Error(reason);
    return reason;
  }
}

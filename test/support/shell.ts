import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Debian's own Python, for which apt installs python3-httpx. */
export const PYTHON = "/usr/bin/python3";

export const HAS_HTTPX = spawnSync(PYTHON, ["-c", "import httpx"]).status === 0;

/** Runs a command line as a person would type it into bash; its standard output. Rejects when a command of it fails. */
export async function runShell(
  text: string,
  env: Readonly<Record<string, string>>,
  cwd?: string,
): Promise<string> {
  const { stdout } = await run("/bin/bash", ["-euo", "pipefail", "-c", text], { env, cwd });
  return stdout;
}

/** Runs a Python program; its standard output. */
export async function runPython(program: string, args: string[]): Promise<string> {
  const { stdout } = await run(PYTHON, ["-c", program, ...args], {
    env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8" },
    maxBuffer: 16 * 1_048_576,
  });
  return stdout;
}

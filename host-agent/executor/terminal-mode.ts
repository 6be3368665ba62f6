import { fileURLToPath } from "node:url";

import { ApiProblem } from "../protocol/problem.ts";

const TERMINAL_JS = fileURLToPath(new URL("terminal.js", import.meta.url));

/** Below this libuv the end of a pseudo-terminal's output gets lost (libuv#4992). */
const FIRST_LOSSLESS_LIBUV = [1, 52] as const;

/** Wraps an argv so that its command runs under a pseudo-terminal. Throws `terminal_unavailable`. */
export async function terminalArgv(argv: readonly string[]): Promise<string[]> {
  const missing = await missingForTerminal();
  if (missing !== undefined) throw new ApiProblem("terminal_unavailable", missing);
  return [process.execPath, TERMINAL_JS, ...argv];
}

/** What terminal mode lacks on this host, in a sentence; undefined when it works. */
export async function missingForTerminal(uvVersion = process.versions.uv): Promise<string | undefined> {
  const [major = 0, minor = 0] = uvVersion.split(".").map(Number);
  const [needMajor, needMinor] = FIRST_LOSSLESS_LIBUV;
  if (major < needMajor || (major === needMajor && minor < needMinor)) {
    return `Terminal mode needs Node 24.16 or later on the host: this one has libuv ${uvVersion}, which loses output`;
  }
  try {
    await import("node-pty");
    return undefined;
  } catch {
    return "Terminal mode needs the optional package node-pty on the host, which is not built: run `npm rebuild node-pty`, which reports what is missing (python3, make, a C++ compiler, or the headers of Node, which it downloads from nodejs.org)";
  }
}

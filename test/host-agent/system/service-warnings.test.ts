import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { expect, onTestFinished, test } from "vitest";

import { needs } from "../../support/needs.ts";
import { PYTHON } from "../../support/shell.ts";
import { tempDir } from "../../support/temp-dir.ts";

const SERVICE = new URL("../../../host-agent/system/service.ts", import.meta.url).href;
const PROGRAM = `
  import { runService } from ${JSON.stringify(SERVICE)};
  await runService(async () => ({ banner: "banner", warnings: ["one", "two"], countAlive: async () => 0, stop: async () => {} }));
  process.kill(process.pid, "SIGTERM");`;
/** Runs the program of its arguments in a new terminal, and prints what the terminal shows. */
const IN_TERMINAL =
  "import pty, sys; sys.exit(pty.spawn(sys.argv[1:], lambda fd: __import__('os').read(fd, 65536)))";

/** Runs a service with two warnings under this command; returns its output, with `stderr` of a file if there is one. */
async function output(
  command: readonly string[],
  stderrFile?: string,
): Promise<{ stdout: string; stderr: string }> {
  const child = spawn(
    command[0]!,
    [...command.slice(1), process.execPath, "--input-type=module", "--eval", PROGRAM],
    {
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  onTestFinished(() => void child.kill("SIGKILL"));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  const plain = stdout.replaceAll("\r", "");
  return { stdout: plain, stderr: stderrFile === undefined ? stderr : readFileSync(stderrFile, "utf8") };
}

const warningsOf = (lines: string) =>
  lines
    .trim()
    .split("\n")
    .filter((line) => line.includes('"event":"start"'))
    .map((line) => JSON.parse(line).warning as string);

test("a service without a terminal reports each warning of its start once, as a line of the log", async () => {
  const { stdout, stderr } = await output(["/usr/bin/env"]);

  expect(stdout).toBe("banner\nStopped by SIGTERM; no runs are alive.\n");
  expect(warningsOf(stderr)).toEqual(["one", "two"]);
});

test(
  "a service in a terminal shows each warning of its start once, as text before the banner",
  needs(existsSync(PYTHON), "python3 is not installed"),
  async () => {
    const { stdout } = await output([PYTHON, "-c", IN_TERMINAL]);

    expect(stdout).toContain("Warning: one\nWarning: two\nbanner\n");
    expect(stdout).not.toContain('"event"');
  },
);

test(
  "a service in a terminal whose log goes to a file has each warning of its start once in both",
  needs(existsSync(PYTHON), "python3 is not installed"),
  async () => {
    const file = join(tempDir(), "log");
    const redirect = ["/bin/sh", "-c", `exec "$@" 2>${file}`, "sh"];
    const { stdout, stderr } = await output([PYTHON, "-c", IN_TERMINAL, ...redirect], file);

    expect(stdout).toContain("Warning: one\nWarning: two\nbanner\n");
    expect(stdout).not.toContain('"event"');
    expect(warningsOf(stderr)).toEqual(["one", "two"]);
    expect(stderr).not.toContain("Warning:");
  },
);

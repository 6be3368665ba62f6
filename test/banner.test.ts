import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";

import { expect, onTestFinished, test } from "vitest";

import { until } from "./hub.ts";
import { spawnServer } from "./server-process.ts";

const NODE_TS = fileURLToPath(new URL("../adapters/node.ts", import.meta.url));
const ESC = "\u001b";

test("a start without a terminal says in plain lines where the API, the console and the reference are", async () => {
  const { env } = await temporaryHome();
  const { child, output, exitCode } = spawnServer(env);
  const printed = await until(() => (output.stdout.includes("Try first:") ? output.stdout : undefined));
  child.kill("SIGTERM");
  await exitCode;

  const url = /^ {2}address {3}(\S+)$/m.exec(printed)![1];
  expect(printed).toContain(
    `\n  console   ${url}/console\n  reference ${url}/docs\n  mode      dev - NO API KEYS`,
  );
  expect(printed).not.toContain(ESC);
});

test("a start on a terminal shows the same in colour, short and with home as ~; NO_COLOR is obeyed", async () => {
  const { env } = await temporaryHome();
  const coloured = await startOnTerminal(env);
  const plain = await startOnTerminal({ ...env, NO_COLOR: "1" });

  expect(coloured).toContain(`${ESC}[1m`);
  expect(plain).not.toContain(`${ESC}[`);
  for (const shown of [stripVTControlCharacters(coloured), plain]) {
    const url = /^ {2}address {3}(http:\S+)\r?$/m.exec(shown)![1]!;
    expect(shown).toContain(`  console   ${url}/console`);
    expect(shown).toContain(`  reference ${url}/docs`);
    expect(shown).toMatch(/ {2}mode {6}dev - NO API KEYS/);
    expect(shown).toContain("  scripts   ~, ~/serveraihub/scripts\r\n");
    expect(shown).toContain("  state     ~/.local/state/serveraihub\r\n");
    expect(shown).toContain(`curl -X POST ${url}/api/v1/pipelines/runs`);
    expect(shown.split("\n").length).toBeLessThan(25);
  }
});

async function temporaryHome() {
  const home = await mkdtemp(join(tmpdir(), "hub-home-"));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  return { env: { HOME: home, HUB_KEYS_FILE: join(home, "keys.json") } };
}

/** What the Node adapter shows on a real pseudo-terminal until it serves. */
async function startOnTerminal(env: Record<string, string>): Promise<string> {
  const { spawn } = await import("node-pty");
  const pty = spawn(process.execPath, [NODE_TS], {
    cols: 120,
    rows: 40,
    env: { PATH: process.env["PATH"] ?? "", TERM: "xterm-256color", HUB_PORT: "0", ...env },
  });
  onTestFinished(() => pty.kill("SIGKILL"));
  let screen = "";
  pty.onData((text) => (screen += text));
  const ended = new Promise((resolve) => pty.onExit(resolve));
  await until(() => screen.includes("Ctrl-C") || undefined);
  pty.write("\u0003");
  await ended;
  return screen;
}

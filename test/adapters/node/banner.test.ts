import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";

import { expect, onTestFinished, test } from "vitest";

import { startAgentProcess } from "../../support/deployments.ts";
import { until } from "../../support/hub.ts";
import { runShell } from "../../support/shell.ts";
import { spawnServer } from "../../support/server-process.ts";

const NODE_TS = fileURLToPath(new URL("../../../adapters/node/node.ts", import.meta.url));
const SHIPPED_RECIPES = new URL("../../../host-agent/recipes/recipes.json", import.meta.url);
const NEEDS_MORE = {
  recipe_id: "train",
  title: "Train",
  description: "",
  command: ["/bin/true"],
  params: [{ name: "model", type: "string", required: true }],
};
const NEEDS_NOTHING = {
  recipe_id: "nightly",
  title: "Nightly",
  description: "",
  command: ["/bin/sleep", "1"],
};
const ESC = "\u001b";

test("a start without a terminal prints the addresses of the API, the console and the reference as plain lines", async () => {
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

test("a start on a terminal prints the same in colour, with ~ for the home folder; NO_COLOR turns colours off", async () => {
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

test.for([
  ["missing", undefined, /ENOENT: no such file/],
  ["malformed", '{"recipes": [{"recipe_id": "a"}]}', /title\b.*command\b/],
] as const)(
  "a start with a recipes file that is %s reports it and serves, and uses the file when it is fixed",
  async ([, text, reason]) => {
    const { env } = await temporaryHome();
    const file = join(env.HOME, "recipes.json");
    if (text !== undefined) await writeFile(file, text);
    const { child, output, exitCode } = spawnServer({ ...env, HUB_RECIPES_FILE: file });
    const printed = await until(() => (output.stdout.includes("Try first:") ? output.stdout : undefined));
    const url = /^ {2}address {3}(\S+)$/m.exec(printed)![1];
    const row = printed.split("\n").find((line) => line.startsWith("  recipes "))!;

    expect(row).toContain(`  recipes   ${file} - NO RECIPES: the recipes file cannot be used: `);
    expect(row).toMatch(reason);
    const log = await until(() => output.stderr.split("\n").find((line) => line.includes("recipes_file")));
    expect(JSON.parse(log)).toMatchObject({ level: "error", error: expect.stringMatching(reason) });
    expect(await (await fetch(`${url}/healthz`)).json()).toMatchObject({ status: "degraded" });

    await writeFile(file, await readFile(SHIPPED_RECIPES));
    const list = await (await fetch(`${url}/api/v1/pipelines/recipes`)).json();
    expect((list as { recipes: object[] }).recipes.length).toBeGreaterThan(1);
    expect(await (await fetch(`${url}/healthz`)).json()).toMatchObject({ status: "ok" });
    await until(() => output.stderr.includes('"event":"recipes_file_mended"') || undefined);
    child.kill("SIGTERM");
    await exitCode;
  },
);

test.for([
  [
    "its first recipe without a required parameter",
    [NEEDS_MORE, NEEDS_NOTHING],
    `'{"recipe_id": "nightly"}'`,
  ],
  ["the list of recipes where each needs a parameter", [NEEDS_MORE], "/api/v1/pipelines/recipes"],
] as const)(
  "the first command of a start works with the operator's catalogue: %s",
  async ([, recipes, shown]) => {
    const { env } = await temporaryHome();
    const file = join(env.HOME, "recipes.json");
    await writeFile(file, JSON.stringify({ recipes }));
    const { child, output, exitCode } = spawnServer({ ...env, HUB_RECIPES_FILE: file });
    const printed = await until(() => /Try first:\n {2}(curl[^]*)$/.exec(output.stdout)?.[1]);
    onTestFinished(() => void child.kill("SIGKILL"));

    expect(printed).toContain(shown);
    expect(output.stdout).not.toContain("build_all_extra_features");
    const answer = JSON.parse(await runShell(printed, env));
    expect(answer).toMatchObject(recipes.length === 1 ? { recipes: [{}] } : { status: "running" });
    child.kill("SIGTERM");
    await exitCode;
  },
);

test("a start of the agent alone also reports a recipes file that cannot be used", async () => {
  const { env } = await temporaryHome();
  const file = join(env.HOME, "recipes.json");
  const state = { HUB_STATE_DIR: join(env.HOME, "state"), HUB_RECIPES_FILE: file };
  const agent = await startAgentProcess({ dir: env.HOME, env: { ...env, ...state } });
  const printed = agent.output();
  await agent.stop();

  expect(printed).toContain(`  recipes   ${file} - NO RECIPES: the recipes file cannot be used: ENOENT`);
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

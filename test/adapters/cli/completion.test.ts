import { execFile } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { describe, expect, onTestFinished, test } from "vitest";

import { type Hub, startHub } from "../../support/hub.ts";
import { BIN, cli, clientEnv } from "./cli.ts";

const run = promisify(execFile);

/** An environment in which `hub` is a command, as it is after `npm link`. */
async function withHub(hub: Hub): Promise<NodeJS.ProcessEnv> {
  const folder = await mkdtemp(join(tmpdir(), "hub-bin-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, "hub");
  await writeFile(file, `#!/bin/sh\nexec '${process.execPath}' '${BIN}' "$@"\n`);
  await chmod(file, 0o755);
  const env = clientEnv(hub);
  return { ...env, PATH: `${folder}:${env["PATH"]}` };
}

/** What bash offers for the last of `words`. */
async function inBash(env: NodeJS.ProcessEnv, words: readonly string[]): Promise<string[]> {
  const script = `set -eu; eval "$(hub completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hub_complete; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await run("bash", ["--norc", "-c", script, "bash", ...words], { env });
  return stdout.split("\n").filter((line) => line !== "");
}

async function has(shell: string): Promise<boolean> {
  return run(shell, ["-c", "true"]).then(
    () => true,
    () => false,
  );
}

describe("completion", () => {
  test("completion in bash offers commands, options, their values, recipes, scripts and runs", async () => {
    await using hub = await startHub();
    const path = await hub.script("my job $(x).sh", "true");
    const { run_id } = await hub.runScript("true");
    const env = await withHub(hub);

    const [commands, options, values, recipes, scripts, runs, words] = await Promise.all([
      inBash(env, ["hub", "lo"]),
      inBash(env, ["hub", "logs", "--s"]),
      inBash(env, ["hub", "runs", "--status", "k"]),
      inBash(env, ["hub", "run", "-f", ""]),
      inBash(env, ["hub", "cat", `${hub.root}/my`]),
      inBash(env, ["hub", "--json", "show", run_id.slice(0, 6)]),
      inBash(env, ["hub", "run", "hello", "--", ""]),
    ]);

    expect(commands).toEqual(["logs", "login", "logout"]);
    expect(options).toEqual(["--since-start"]);
    expect(values).toEqual(["killed"]);
    expect(recipes).toEqual(["hello"]);
    expect(scripts).toEqual([path.replaceAll(/[ $()]/g, String.raw`\$&`)]);
    expect(runs).toContain(run_id);
    expect(words).toEqual([]);
  });

  test("completion never evaluates what was typed, and prints nothing when the Hub cannot be reached", async () => {
    await using hub = await startHub();
    const env = await withHub(hub);
    const mark = join(hub.dir, "evaluated");

    await inBash(env, ["hub", "run", `$(touch ${mark})`]);
    const away = await cli("http://127.0.0.1:1", ["complete", "--", "run", ""]);

    expect(away).toEqual({ code: 0, stdout: "", stderr: "" });
    await expect(run("test", ["-e", mark])).rejects.toThrow("Command failed");
  });

  test("completion offers no recipe or script whose name contains control characters", async () => {
    await using hub = await startHub();
    await hub.script("evil\u001b[2J.sh", "true");
    await hub.script("new\nline.sh", "true");

    const { stdout } = await cli(hub, ["complete", "--", "cat", ""]);

    expect(stdout).toBe("");
  });

  test("zsh and fish load their completion scripts, where they are installed", async () => {
    await using hub = await startHub();
    const env = await withHub(hub);
    const scripts = await Promise.all(["zsh", "fish"].map((shell) => cli(hub, ["completion", shell])));

    expect(scripts.map(({ code }) => code)).toEqual([0, 0]);
    const checks: Record<string, string> = {
      zsh: 'eval "$(hub completion zsh)"; (( $+functions[_hub_complete] ))',
      fish: "hub completion fish | source; complete -C 'hub run he' | string match -q 'hello*'",
    };
    for (const [shell, check] of Object.entries(checks)) {
      if (await has(shell)) await run(shell, ["-c", check], { env });
    }
  });
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { onTestFinished } from "vitest";

import { examine } from "../../../adapters/doctor/examine.ts";
import type { Result } from "../../../adapters/doctor/finding.ts";
import { COMPILE_CACHE } from "../../support/compile-cache.ts";

/** The path of the program that an operator runs. */
export const DOCTOR = fileURLToPath(new URL("../../../adapters/doctor/doctor.ts", import.meta.url));

/** An installation in its own folder, and the environment that selects it. */
export interface Installation {
  dir: string;
  root: string;
  state: string;
  keysFile: string;
  recipesFile: string;
  env: Record<string, string>;
}

/** An installation as it should be, before its first start. */
export async function install(atEnd: typeof onTestFinished = onTestFinished): Promise<Installation> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "doctor-test-")));
  atEnd(() => rm(dir, { recursive: true, force: true }));
  const [root, state, tmp] = [join(dir, "scripts"), join(dir, "state"), join(dir, "tmp")];
  for (const folder of [root, state, tmp]) await mkdir(folder, { mode: 0o700 });
  const [keysFile, recipesFile] = [join(dir, "keys.json"), join(dir, "recipes.json")];
  const installation = {
    dir,
    root,
    state,
    keysFile,
    recipesFile,
    env: {
      PATH: process.env["PATH"] ?? "/usr/bin:/bin",
      TMPDIR: tmp,
      HUB_PORT: "0",
      HUB_STATE_DIR: state,
      HUB_SCRIPT_ROOTS: root,
      HUB_KEYS_FILE: keysFile,
      HUB_RECIPES_FILE: recipesFile,
    },
  };
  await writeKeys(installation, {});
  await writeRecipe(installation, {});
  return installation;
}

/** Writes a keys file with one sound key, with these fields changed. */
export const writeKeys = ({ keysFile }: Installation, more: object) =>
  writeFile(
    keysFile,
    JSON.stringify({ keys: [{ name: "acme-prod", key_sha256: "a".repeat(64), scopes: ["*"], ...more }] }),
    { mode: 0o600 },
  );

/** Writes a recipes file with one sound recipe, with these fields changed. */
export const writeRecipe = ({ recipesFile }: Installation, more: object) =>
  writeFile(
    recipesFile,
    JSON.stringify({
      recipes: [{ recipe_id: "hello", title: "Hello", description: "", command: ["echo"], ...more }],
    }),
  );

/** Runs the doctor as the operator does: its exit code, and all that it printed. */
export async function doctor(env: Record<string, string>, ...args: string[]) {
  const child = spawn(process.execPath, [DOCTOR, ...args], {
    env: { ...COMPILE_CACHE, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => (stdout += String(chunk)));
  child.stderr.on("data", (chunk) => (stderr += String(chunk)));
  const [code] = await once(child, "close");
  return { code: code as number | null, stdout, stderr };
}

/** What the doctor finds without the trials. */
export async function findings(env: Record<string, string>): Promise<Result[]> {
  return examine(env, { trials: false });
}

/** The results that are failures. */
export const failuresOf = (results: readonly Result[]) => results.filter(({ status }) => status === "fail");

import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { makeAgentKey } from "../../../adapters/keys/agent-pair.ts";
import { lookAtRecipes } from "../../../adapters/doctor/checks/recipes.ts";
import type { Patient, Result } from "../../../adapters/doctor/finding.ts";
import { startScratchHub } from "../../../adapters/doctor/scratch-hub.ts";
import { runTrials } from "../../../adapters/doctor/trials.ts";
import { readAgentConfig, SHIPPED_RECIPES } from "../../../host-agent/config.ts";
import { readStat } from "../../../host-agent/executor/process-identity.ts";
import { remoteEnv, startAgentProcess } from "../../support/deployments.ts";
import { startHub } from "../../support/hub.ts";
import { DOCTOR, doctor, failuresOf, findings, install, writeRecipe } from "./installation.ts";
import { needs } from "../../support/needs.ts";

/** In a separate mount namespace (unshare(1)). */
const MAY_UNMOUNT = spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "none", "/proc"]).status === 0;

test("the doctor passes on a sound installation, tries out every promise, and leaves nothing behind", async () => {
  const { dir, env } = await install();
  const before = await readdir(dir, { recursive: true });

  const [{ code, stdout, stderr }, forMachines] = await Promise.all([doctor(env), doctor(env, "--json")]);

  const { ok, results } = JSON.parse(forMachines.stdout) as { ok: boolean; results: Result[] };
  expect({ ok, code: forMachines.code, failed: failuresOf(results) }).toEqual({
    ok: true,
    code: 0,
    failed: [],
  });
  expect(results.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["Settings", "Crash", "Environment"]),
  );
  expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: "" });
  expect(stdout).not.toMatch(/^✗/m);
  expect(stdout).toMatch(/^\d+ passed, \d+ warnings?, 0 failed$/m);
  const tried = ["Retries", "Crash", "Kill", "Large log", "Symbolic links", "UTF-8", "Environment"];
  for (const name of tried) expect(stdout).toMatch(new RegExp(`^✓ ${name}: `, "m"));
  expect(stdout).toMatch(/^[✓!] Terminal mode: /m);
  expect(await readdir(dir, { recursive: true })).toEqual(before);
  expect(await processesWith(dir)).toEqual([]);
});

test("each of the doctor's trials fails when the product breaks its promise", async () => {
  const results = await runTrials(async () => {
    const hub = await startScratchHub();
    return {
      ...hub,
      launch: async (path) => {
        const answer = await hub.launch(path);
        return answer.status === 403 ? { ...answer, status: 201 } : answer;
      },
      ended: async (id) => ({ ...(await hub.ended(id)), status: "completed", exit_code: 0 }),
      page: async (id, query) => ({ ...(await hub.page(id, query)), chunk: "" }),
      log: async (id, maxBytes) => `${await hub.log(id, maxBytes)}\ufffd`,
      secret: "HUB_RUN_ID",
    };
  });

  expect(results.length).toBeGreaterThanOrEqual(7);
  const tried = results.filter(({ status }) => status !== "warn");
  expect(tried.filter(({ status }) => status === "pass")).toEqual([]);
  for (const { says, advice } of tried) {
    expect(says).toMatch(/^Broken: .+\.$/);
    expect(advice).toContain("Do not use it for important jobs");
  }
});

test.for([
  ["warns", {}, ["warn"]],
  ["does not warn on a Unix socket", { HUB_HOST: "unix:/run/hub/hub.sock" }, []],
  ["does not warn on a port of root's", { HUB_PORT: "443" }, []],
] as const)(
  "the doctor %s, where jobs of the service's user can take its port",
  async ([, more, expected]) => {
    const { env } = await install();
    const results = await findings({ ...env, ...more });
    const warnings = results.filter(({ says }) => says.includes("listen on its port"));
    expect(warnings.map(({ status }) => status)).toEqual(expected);
  },
);

test("the doctor warns about / as a script root", async () => {
  const { env } = await install();
  const results = await findings({ ...env, HUB_SCRIPT_ROOTS: "/" });
  expect(results).toContainEqual(
    expect.objectContaining({
      name: "Script roots",
      status: "warn",
      says: expect.stringContaining("/ allows"),
    }),
  );
});

test("the doctor passes next to a running server, and does not disturb it", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("echo hello");
  await hub.ended(run);
  const results = await findings({ ...hub.env, HUB_PORT: new URL(hub.url).port });
  expect(failuresOf(results)).toEqual([]);
  expect(results).toContainEqual(
    expect.objectContaining({ name: "Port", says: expect.stringContaining("by a Hub") }),
  );
  expect(results).toContainEqual(
    expect.objectContaining({ name: "Record of runs", says: expect.stringContaining("intact") }),
  );
  expect(await hub.log(run)).toBe("hello\n");
});

test("the doctor does not report dev mode where the service on the port requires keys of another file", async () => {
  await using hub = await startHub();
  const env = { ...hub.env, HUB_PORT: new URL(hub.url).port, HUB_KEYS_FILE: join(hub.dir, "none.json") };

  const results = await findings(env);

  expect(results).toContainEqual({
    name: "API keys",
    status: "warn",
    says: `The keys file ${env.HUB_KEYS_FILE} does not exist, but the service at ${hub.url} requires API keys: it has another keys file, which was not checked.`,
    advice: expect.stringContaining("HUB_KEYS_FILE"),
  });
  expect(JSON.stringify(results)).not.toContain("dev mode");
});

test.for([
  ["passes with the samples of an installation without node-pty", SHIPPED_RECIPES, "warn"],
  ["fails on an operator's recipe that needs terminal mode, without node-pty", undefined, "fail"],
] as const)("the doctor %s", async ([, recipesFile, status]) => {
  const installation = await install();
  await writeRecipe(installation, { terminal: true });
  const agent = readAgentConfig({
    ...installation.env,
    HUB_RECIPES_FILE: recipesFile ?? installation.recipesFile,
  });
  const patient: Patient = { env: installation.env, agent, keysFile: installation.keysFile, node: undefined };

  const found = await lookAtRecipes(patient, "node-pty is not built");

  expect(found.map((finding) => finding.status)).toEqual([status]);
  expect(found[0]!.says).toContain("it needs terminal mode");
});

test("the doctor fails without /proc", needs(MAY_UNMOUNT, "unshare may not mount here"), async () => {
  const { env } = await install();
  const command = 'mount -t tmpfs none /proc && exec "$@"';
  const inside = ["--mount", "sh", "-c", command, "sh", process.execPath, DOCTOR, "--checks-only", "--json"];
  const { stdout } = spawnSync("unshare", inside, { env, encoding: "utf8" });
  const { ok, results } = JSON.parse(stdout) as { ok: boolean; results: Result[] };
  expect(ok).toBe(false);
  expect(failuresOf(results)).toMatchObject([
    {
      name: "/proc",
      says: expect.stringContaining("cannot be read"),
      advice: expect.stringMatching(/mounted/),
    },
  ]);
});

test("the doctor fails on a port that another program uses", async () => {
  const { env } = await install();
  const other = createServer((socket) => socket.end("hello")).listen(0, "127.0.0.1");
  onTestFinished(() => void other.close());
  await once(other, "listening");
  const { port } = other.address() as { port: number };
  const { code, stdout } = await doctor({ ...env, HUB_PORT: String(port) }, "--json", "--checks-only");
  expect(code).toBe(1);
  const { ok, results } = JSON.parse(stdout) as { ok: boolean; results: Result[] };
  expect(ok).toBe(false);
  expect(results).toContainEqual(expect.objectContaining({ name: "Port", status: "fail" }));
});

test("the doctor passes on a remote agent that trusts the edge, and fails on one that does not", async () => {
  const { dir, env } = await install();
  const agent = await startAgentProcess({ dir, env });
  onTestFinished(() => agent.stop());
  const paired = remoteEnv({ dir, env }, agent.url);

  const trusted = await findings(paired);
  expect(failuresOf(trusted)).toEqual([]);
  expect(trusted).toContainEqual(
    expect.objectContaining({
      name: "Host-agent",
      status: "pass",
      says: expect.stringContaining("trusts the key"),
    }),
  );

  const stranger = await findings({ ...paired, HUB_AGENT_KEY: JSON.stringify(await makeAgentKey()) });
  const [failed] = failuresOf(stranger);
  expect(failed!.says).toMatch(/does not trust the key edge-/);
  expect(failed!.advice).toContain("agent-pair");

  const misnamed = await findings({ ...paired, HUB_AGENT_NAME: "another" });
  expect(failuresOf(misnamed)).toHaveLength(1);
});

test("the doctor warns about keys in plain, expired keys and dev mode, by name", async () => {
  const installation = await install();
  const secret = "sk_live_never_shown";
  await writeFile(
    installation.keysFile,
    JSON.stringify({
      keys: [
        { name: "plain-one", key: secret, scopes: ["*"] },
        { name: "old-one", key_sha256: "b".repeat(64), scopes: ["*"], expires: "2020-01-31" },
      ],
    }),
  );
  const results = await findings(installation.env);
  expect(failuresOf(results)).toEqual([]);
  const warnings = results.filter(({ status }) => status === "warn").map(({ says }) => says);
  expect(warnings).toContainEqual(expect.stringContaining("plain: plain-one"));
  expect(warnings).toContainEqual(expect.stringContaining("expired: old-one"));
  expect(JSON.stringify(results)).not.toContain(secret);

  await rm(installation.keysFile);
  expect(await findings(installation.env)).toContainEqual(
    expect.objectContaining({ status: "warn", says: expect.stringContaining("dev mode") }),
  );
});

test("doctor --help shows the options, and an unknown option is a usage error", async () => {
  const { env } = await install();
  const help = await doctor(env, "--help");
  expect(help.code).toBe(0);
  for (const option of ["--json", "--checks-only"]) expect(help.stdout).toContain(option);
  const mistake = await doctor(env, "--jsno");
  expect(mistake.code).toBe(64);
  expect(mistake.stderr).toContain("--jsno");
});

/** The living processes that name this folder in their command line. */
async function processesWith(dir: string): Promise<string[]> {
  const { readFileSync } = await import("node:fs");
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => {
    if (Number(pid) === process.pid || readStat(Number(pid)) === undefined) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(dir);
    } catch {
      return false;
    }
  });
}

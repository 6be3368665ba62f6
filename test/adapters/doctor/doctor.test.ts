import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, readdir, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import { makeAgentKey } from "../../../adapters/keys/agent-pair.ts";
import { examine, type Result } from "../../../adapters/doctor/examine.ts";
import { startScratchHub } from "../../../adapters/doctor/scratch-hub.ts";
import { runTrials } from "../../../adapters/doctor/trials.ts";
import { readStat } from "../../../host-agent/executor/process-identity.ts";
import { COMPILE_CACHE } from "../../support/compile-cache.ts";
import { remoteEnv, startAgentProcess } from "../../support/deployments.ts";
import { startHub } from "../../support/hub.ts";

const DOCTOR = fileURLToPath(new URL("../../../adapters/doctor/doctor.ts", import.meta.url));
const IS_ROOT = process.getuid?.() === 0;
/** In a mount namespace of its own (unshare(1)). */
const MAY_UNMOUNT = spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "none", "/proc"]).status === 0;

interface Installation {
  dir: string;
  root: string;
  state: string;
  keysFile: string;
  recipesFile: string;
  env: Record<string, string>;
}

/** An installation as it should be, before its first start. */
async function install(atEnd: typeof onTestFinished = onTestFinished): Promise<Installation> {
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

const writeKeys = ({ keysFile }: Installation, more: object) =>
  writeFile(
    keysFile,
    JSON.stringify({ keys: [{ name: "acme-prod", key_sha256: "a".repeat(64), scopes: ["*"], ...more }] }),
    { mode: 0o600 },
  );

const writeRecipe = ({ recipesFile }: Installation, more: object) =>
  writeFile(
    recipesFile,
    JSON.stringify({
      recipes: [{ recipe_id: "hello", title: "Hello", description: "", command: ["echo"], ...more }],
    }),
  );

/** Runs the doctor as the operator does: its exit code, and all that it printed. */
async function doctor(env: Record<string, string>, ...args: string[]) {
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
async function findings(env: Record<string, string>): Promise<Result[]> {
  return examine(env, { trials: false });
}

const failuresOf = (results: readonly Result[]) => results.filter(({ status }) => status === "fail");

test("a sound installation is green, with every promise tried out, and nothing is left behind", async () => {
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
  const tried = ["Retries", "Crash", "Kill", "Large log", "Symbolic links", "UTF-8", "Environment"];
  for (const name of tried) expect(stdout).toMatch(new RegExp(`^✓ ${name}: `, "m"));
  expect(stdout).toMatch(/^[✓!] Terminal mode: /m);
  expect(await readdir(dir, { recursive: true })).toEqual(before);
  expect(await processesWith(dir)).toEqual([]);
});

test("where the product breaks a promise, each trial is red", async () => {
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
    expect(advice).toContain("Do not launch what matters");
  }
});

test("a root that is everything is a warning", async () => {
  const { env } = await install();
  const results = await findings({ ...env, HUB_SCRIPT_ROOTS: "/" });
  expect(results).toContainEqual(
    expect.objectContaining({
      name: "Script roots",
      status: "warn",
      says: expect.stringContaining("/ opens"),
    }),
  );
});

test("beside a server that is at work it is green as well, and disturbs nothing", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("echo hello");
  await hub.ended(run);
  const results = await findings({ ...hub.env, HUB_PORT: new URL(hub.url).port });
  expect(failuresOf(results)).toEqual([]);
  expect(results).toContainEqual(
    expect.objectContaining({ name: "Port", says: expect.stringContaining("by a Hub") }),
  );
  expect(results).toContainEqual(
    expect.objectContaining({ name: "Record of runs", says: expect.stringContaining("whole") }),
  );
  expect(await hub.log(run)).toBe("hello\n");
});

interface Fault {
  name: string;
  /** Whether it can be put in here. */
  needsRoot?: boolean;
  put(installation: Installation): Promise<Record<string, string> | void>;
  says: RegExp;
  advises: RegExp;
}

const FAULTS: Fault[] = [
  {
    name: "a keys file that others may read",
    put: ({ keysFile }) => chmod(keysFile, 0o644),
    says: /keys\.json is open to other users \(mode 0644\)/,
    advises: /chmod 0600/,
  },
  {
    name: "a keys file that is no JSON",
    put: ({ keysFile }) => writeFile(keysFile, '{"keys": [{"name": '),
    says: /keys\.json cannot be used: .*not valid JSON/,
    advises: /npm run keys/,
  },
  {
    name: "a key with a scope that does not exist",
    put: (installation) => writeKeys(installation, { scopes: ["everything"] }),
    says: /cannot be used: keys\.0\.scopes\.0/,
    advises: /Mend it/,
  },
  {
    name: "keys that have all expired",
    put: (installation) => writeKeys(installation, { expires: "2020-01-31" }),
    says: /All keys have expired \(acme-prod\)/,
    advises: /Create a new one/,
  },
  {
    name: "no keys file on a public address",
    put: async ({ keysFile }) => {
      await rm(keysFile);
      return { HUB_HOST: "0.0.0.0" };
    },
    says: /no keys file .* refuses to start/,
    advises: /keys -- create/,
  },
  {
    name: "a keys file inside a script root",
    put: async ({ root }) => {
      const inside = join(root, "keys.json");
      await writeFile(
        inside,
        JSON.stringify({ keys: [{ name: "a", key_sha256: "a".repeat(64), scopes: ["*"] }] }),
        { mode: 0o600 },
      );
      return { HUB_KEYS_FILE: inside };
    },
    says: /keys file .* lies inside the root/,
    advises: /Move one of the two/,
  },
  {
    name: "a state folder of another user",
    needsRoot: true,
    put: ({ state }) => chown(state, 65_534, 65_534),
    says: /state belongs to uid 65534/,
    advises: /as the user of the service/,
  },
  {
    name: "a script root of another user",
    needsRoot: true,
    put: ({ root }) => chown(root, 65_534, 65_534),
    says: /scripts belongs to uid 65534, who decides what clients run/,
    advises: /chown/,
  },
  {
    name: "a script that everybody may change",
    async put({ root }) {
      await mkdir(join(root, "nightly"));
      await writeFile(join(root, "nightly", "job.sh"), "true");
      await chmod(join(root, "nightly", "job.sh"), 0o666);
    },
    says: /nightly\/job\.sh is open to every user \(mode 0666\): others may change what clients run/,
    advises: /chmod go-w/,
  },
  {
    name: "a script of another user",
    needsRoot: true,
    async put({ root }) {
      await writeFile(join(root, "job.sh"), "true", { mode: 0o755 });
      await chown(join(root, "job.sh"), 65_534, 65_534);
    },
    says: /job\.sh belongs to uid 65534: others may change what clients run/,
    advises: /Give it to root/,
  },
  {
    name: "a recipes file of another user",
    needsRoot: true,
    put: ({ recipesFile }) => chown(recipesFile, 65_534, 65_534),
    says: /recipes\.json belongs to uid 65534: others may change what clients run/,
    advises: /chmod go-w/,
  },
  {
    name: "a recipes file that a group may change",
    needsRoot: true,
    async put({ recipesFile }) {
      await chown(recipesFile, 0, 65_534);
      await chmod(recipesFile, 0o664);
    },
    says: /recipes\.json is open to the group \d+ \(mode 0664\)/,
    advises: /chmod go-w/,
  },
  {
    name: "a folder of the keys file that belongs to another user",
    needsRoot: true,
    async put({ dir }) {
      const folder = join(dir, "config");
      await mkdir(folder);
      const keysFile = join(folder, "keys.json");
      await writeKeys({ keysFile } as Installation, {});
      await chown(folder, 65_534, 65_534);
      return { HUB_KEYS_FILE: keysFile };
    },
    says: /config belongs to uid 65534: others may replace the keys file/,
    advises: /Give it to root/,
  },
  {
    name: "a log_dir that everybody may write into",
    async put(installation) {
      const logs = join(installation.dir, "logs");
      await mkdir(logs);
      await chmod(logs, 0o777);
      await writeRecipe(installation, { log_dir: logs });
    },
    says: /Recipe hello: the folder of its logs, .*, is open to every user/,
    advises: /log_dir/,
  },
  {
    name: "a user for the runs that does not exist",
    put: async () => ({ HUB_RUN_AS: "no-such-user" }),
    says: /HUB_RUN_AS: "no-such-user" cannot be used/,
    advises: /Name a user/,
  },
  {
    name: "an audit log that is a folder",
    put: async ({ root }) => ({ HUB_AUDIT_FILE: root }),
    says: /scripts is no file/,
    advises: /HUB_AUDIT_FILE/,
  },
  {
    name: "an audit log that is a link",
    async put({ dir, state }) {
      const path = join(dir, "audit.log");
      await symlink(join(state, "elsewhere"), path);
      return { HUB_AUDIT_FILE: path };
    },
    says: /audit\.log is no file/,
    advises: /HUB_AUDIT_FILE/,
  },
  {
    name: "a trust file that everybody may change",
    async put({ state }) {
      const path = join(state, "trusted_keys.json");
      await writeFile(path, '{"keys": []}');
      await chmod(path, 0o666);
    },
    says: /trusted_keys\.json is open to every user \(mode 0666\), who can let any edge in/,
    advises: /chmod 0600/,
  },
  {
    name: "a folder of the trust file that everybody may write into",
    put: async ({ dir }) => {
      const folder = join(dir, "trust");
      await mkdir(folder);
      await chmod(folder, 0o777);
      const path = join(folder, "trusted_keys.json");
      await writeFile(path, '{"keys": []}', { mode: 0o600 });
      return { HUB_AGENT_TRUST: path };
    },
    says: /trust is open to every user \(mode 0777\): others may replace the trust file/,
    advises: /chmod go-w/,
  },
  {
    name: "a file where the state folder should be",
    put: async ({ state }) => {
      await rm(state, { recursive: true });
      await writeFile(state, "");
      return { HUB_KV: "memory:" };
    },
    says: /state is no folder/,
    advises: /HUB_STATE_DIR/,
  },
  {
    name: "a script root that is missing",
    put: ({ root }) => rm(root, { recursive: true }),
    says: /scripts is not there/,
    advises: /mkdir -p/,
  },
  {
    name: "a script root that everybody may write into",
    put: ({ root }) => chmod(root, 0o777),
    says: /Every user may put scripts into .* \(mode 0777\)/,
    advises: /chmod o-w/,
  },
  {
    name: "a malformed recipes file",
    put: ({ recipesFile }) => writeFile(recipesFile, '{"recipes": [{}]}'),
    says: /recipes\.json cannot be used: .*recipe_id/,
    advises: /README/,
  },
  {
    name: "a recipe whose program is missing",
    put: (installation) => writeRecipe(installation, { command: ["no-such-program"] }),
    says: /Recipe hello: there is no program "no-such-program"/,
    advises: /Install it/,
  },
  {
    name: "a recipe whose folder is missing",
    put: (installation) => writeRecipe(installation, { cwd: "nowhere" }),
    says: /Recipe hello: its folder .*nowhere is not there/,
    advises: /cwd/,
  },
  {
    name: "a damaged record of runs",
    put: ({ state }) => writeFile(join(state, "runs.db"), "this was a database once".repeat(100)),
    says: /runs\.db .*(not a database|damaged)/,
    advises: /backup/,
  },
  {
    name: "a damaged KV",
    put: ({ state }) => writeFile(join(state, "kv.db"), "this was a database once".repeat(100)),
    says: /kv\.db cannot be written/,
    advises: /HUB_KV/,
  },
  {
    name: "a setting that makes no sense",
    put: async () => ({ HUB_PORT: "eighty" }),
    says: /HUB_PORT: must be a port number/,
    advises: /docs\/configuration\.md/,
  },
  {
    name: "an agent that is not there",
    put: async () => ({
      HUB_AGENT_URL: "http://127.0.0.1:1",
      HUB_AGENT_KEY: JSON.stringify(await makeAgentKey()),
    }),
    says: /agent at http:\/\/127\.0\.0\.1:1 cannot be reached/,
    advises: /npm run agent/,
  },
];

test.concurrent.for(FAULTS)(
  "$name is red, and says what to do",
  async ({ put, says, advises, needsRoot }, { skip, onTestFinished: atEnd }) => {
    if (needsRoot && !IS_ROOT) skip("only root can give a folder away");
    const installation = await install(atEnd);
    const more = await put(installation);

    const failed = failuresOf(await findings({ ...installation.env, ...more }));

    expect(failed, JSON.stringify(failed)).toHaveLength(1);
    expect(failed[0]!.says).toMatch(says);
    expect(failed[0]!.advice).toMatch(advises);
  },
);

test("a setting that makes no sense to the agent either is red, and says that nothing else was looked at", async () => {
  const { env } = await install();
  const results = await findings({ ...env, HUB_MAX_RUNNING: "many" });
  expect(results).toMatchObject([
    { name: "Settings", status: "fail", says: expect.stringContaining("HUB_MAX_RUNNING") },
    { name: "Settings", status: "warn", says: "Nothing else was looked at." },
  ]);
});

test.skipIf(!MAY_UNMOUNT)("without /proc the host is red, whatever else is well", async () => {
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

test("a port that somebody else holds is red", async () => {
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

test("a remote agent that trusts us is green, and one that does not is red", async () => {
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

test("keys in plain, expired ones among others, and dev mode are warnings that name them", async () => {
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

test("--help tells the options, and what is no option is a mistake in the command line", async () => {
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

import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, rename, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { expect, onTestFinished, test } from "vitest";

import { readNodeConfig } from "../../../adapters/node/config.ts";
import { serveNode } from "../../../adapters/node/serve.ts";
import { ConfigError } from "../../../host-agent/system/config-error.ts";
import {
  ALL,
  type Hub,
  type HubOptions,
  nodeEmbedded,
  OTHER,
  sharedHub,
  startHub,
  until,
} from "../../support/hub.ts";
import { spawnServer, startServerProcess } from "../../support/server-process.ts";

/** The promise is one second; the rest is for a busy machine. */
const SOON_MS = 3_000;

const write = (hub: Hub, text: string) => writeFile(hub.keysFile, text, { mode: 0o600 });
const health = async (hub: Hub) => (await hub.get("/healthz")).json;
const statusFor = async (hub: Hub, key: string | null) => {
  const headers: Record<string, string> = key === null ? {} : { authorization: `Bearer ${key}` };
  return (await hub.get("/api/v1/scripts", { key: null, headers })).status;
};

async function expectMode(hub: Hub, expected: object): Promise<void> {
  const isThere = (answer: Record<string, unknown>) =>
    Object.entries(expected).every(([name, value]) => answer[name] === value);
  await until(async () => isThere(await health(hub)) || undefined, SOON_MS);
  expect(await health(hub)).toMatchObject(expected);
}

test("API keys are required as soon as a keys file exists", async () => {
  await using hub = await startHub({ keys: [] });
  await rm(hub.keysFile);
  await hub.restart();
  expect(await statusFor(hub, null)).toBe(200);

  await write(hub, JSON.stringify({ keys: [ALL] }));

  await until(async () => (await statusFor(hub, null)) === 401 || undefined, SOON_MS);
  expect(await statusFor(hub, ALL.key)).toBe(200);
});

test("a key that is added is accepted, and one that is removed is refused, without a restart", async () => {
  await using hub = await startHub({ keys: [ALL] });
  await write(hub, JSON.stringify({ keys: [ALL, OTHER] }));
  await until(async () => (await statusFor(hub, OTHER.key)) === 200 || undefined, SOON_MS);
  await write(hub, JSON.stringify({ keys: [OTHER] }));
  await until(async () => (await statusFor(hub, ALL.key)) === 401 || undefined, SOON_MS);
  expect(await health(hub)).toMatchObject({ status: "ok", mode: "enforced" });
});

test("the keys file is read again when a file of the same size and time replaces it", async () => {
  await using hub = await startHub({ keys: [ALL] });
  const other = { ...ALL, key: ALL.key.replace("all", "new") };
  const draft = `${hub.keysFile}.draft`;
  await utimes(hub.keysFile, 1_000, 1_000);
  await until(async () => (await statusFor(hub, ALL.key)) === 200 || undefined, SOON_MS);
  await writeFile(draft, JSON.stringify({ keys: [other] }));
  await utimes(draft, 1_000, 1_000);
  await rename(draft, hub.keysFile);
  await until(async () => (await statusFor(hub, other.key)) === 200 || undefined, SOON_MS);
  expect(await statusFor(hub, ALL.key)).toBe(401);
});

const BREAKAGES: [string, (hub: Hub) => Promise<unknown>][] = [
  ["cut off in the middle", (hub) => write(hub, '{"keys": [{"name": "a"')],
  [
    "given a second, empty list of keys",
    (hub) => write(hub, `{"keys": [${JSON.stringify(ALL)}], "keys": []}`),
  ],
  [
    "given a key whose expiry is misspelt",
    (hub) => write(hub, JSON.stringify({ keys: [{ ...OTHER, expire: "2020-01-01" }] })),
  ],
  ["emptied to nothing", (hub) => write(hub, "")],
  [
    "given a scope that is none",
    (hub) => write(hub, JSON.stringify({ keys: [{ ...OTHER, scopes: ["admin"] }] })),
  ],
  ["given an empty list of another name", (hub) => write(hub, '{"key": []}')],
  ["removed", (hub) => rm(hub.keysFile)],
  [
    "made unreadable",
    // Not by its mode: the tests may run as root.
    async (hub) => {
      await rm(hub.keysFile);
      await mkdir(hub.keysFile);
    },
  ],
];

test.for(BREAKAGES)(
  "when the keys file is %s the last good keys stay in force, and the health reports it",
  async ([, spoil]) => {
    await using hub = await startHub({ keys: [ALL] });
    await spoil(hub);
    await expectMode(hub, { status: "degraded", mode: "enforced" });
    const { problems } = await health(hub);
    expect(problems).toEqual([expect.stringContaining("last good keys")]);
    expect(JSON.stringify(problems)).not.toContain(hub.dir);
    expect(await statusFor(hub, ALL.key)).toBe(200);
    expect(await statusFor(hub, OTHER.key)).toBe(401);
    expect(await statusFor(hub, null)).toBe(401);

    await rm(hub.keysFile, { recursive: true, force: true });
    await write(hub, JSON.stringify({ keys: [OTHER] }));
    await expectMode(hub, { status: "ok", mode: "enforced" });
    expect(await statusFor(hub, ALL.key)).toBe(401);
  },
);

test("a keys file that cannot be read for lack of file descriptors is reported once, until it can be read", async () => {
  const dir = await mkdtemp(join(tmpdir(), "keys-file-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const file = join(dir, "keys.json");
  await writeFile(file, JSON.stringify({ keys: [ALL] }));
  const program = `
    import { closeSync, openSync, utimesSync } from "node:fs";
    import { openKeysFile } from ${JSON.stringify(new URL("../../../adapters/node/keys-file.ts", import.meta.url).href)};
    let time = 0;
    const log = (entry) => console.error(JSON.stringify(entry));
    const keys = await openKeysFile(${JSON.stringify(file)}, log, () => (time += 1_000), (what) => console.log(what));
    utimesSync(${JSON.stringify(file)}, 1, 1);
    const taken = [];
    try { for (;;) taken.push(openSync("/dev/null")); } catch {}
    for (let i = 0; i < 5; i++) await keys();
    taken.forEach((fd) => closeSync(fd));
    await keys();
    console.log((await keys()).problem);`;
  const { stdout, stderr } = await promisify(execFile)("sh", [
    "-c",
    'ulimit -n 64; exec "$0" --input-type=module --eval "$1"',
    process.execPath,
    program,
  ]);
  expect(stdout).toBe("refused\nloaded\nundefined\n");
  expect(stderr.trim().split("\n")).toEqual([expect.stringContaining("EMFILE")]);
});

test("a keys file whose list is emptied opens no running Hub: it refuses every request, and only a restart is dev mode", async () => {
  await using hub = await startHub({ keys: [ALL] });
  await write(hub, '{"keys": []}');
  await expectMode(hub, { status: "degraded", mode: "unavailable" });
  expect((await health(hub)).problems).toEqual([expect.stringContaining("restarted")]);
  for (const key of [null, ALL.key]) expect(await statusFor(hub, key)).toBe(503);
  await write(hub, JSON.stringify({ keys: [OTHER] }));
  await expectMode(hub, { status: "ok", mode: "enforced" });
  await write(hub, '{"keys": []}');
  await expectMode(hub, { mode: "unavailable" });
  await hub.restart();
  await expectMode(hub, { status: "ok", mode: "dev" });
});

test("a malformed keys file refuses every request on a Hub that had no keys before", async () => {
  await using hub = await startHub({ keys: [] });
  await write(hub, '{"keys": [');
  await until(async () => (await statusFor(hub, null)) === 503 || undefined, SOON_MS);
  const { headers, json } = await hub.get("/api/v1/scripts");
  expect(json).toMatchObject({ status: 503, code: "keys_unavailable" });
  expect(headers.get("retry-after")).toBe("10");
});

test("on a public address the Hub refuses every request after its last key was removed", async () => {
  await using hub = await startHub({ keys: [ALL], env: { HUB_HOST: "0.0.0.0" } });
  expect(await statusFor(hub, ALL.key)).toBe(200);
  await write(hub, '{"keys": []}');
  await until(async () => (await statusFor(hub, null)) === 503 || undefined, SOON_MS);
  const answer = await hub.get("/healthz");
  expect(answer.json).toMatchObject({ status: "degraded", mode: "unavailable" });
  expect(answer.status).toBe(503);
});

/** Starts a server process that must refuse to start, and returns what it printed. */
async function refusal(options: HubOptions): Promise<string> {
  await using hub = await startHub({ keys: options.keys ?? [ALL] });
  const env = { ...hub.env, HUB_STATE_DIR: join(hub.dir, "other"), ...options.env };
  const { child, output, exitCode } = spawnServer(env);
  // Also when it does not end by itself and the test times out.
  onTestFinished(() => void child.kill("SIGKILL"));
  expect({ code: await exitCode, stdout: output.stdout }).toEqual({ code: 78, stdout: "" });
  expect(output.stderr).not.toContain("    at ");
  return output.stderr.replaceAll(hub.dir, "DIR");
}

const notStarted = sharedHub({ deploy: nodeEmbedded, keys: [ALL] });
let stateDirs = 0;

/** The message with which a start in this process is refused: in a process of its own it takes fifty times as long. */
async function refusalHere({ keysText, env = {} }: { keysText?: string; env?: Record<string, string> }) {
  const hub = notStarted();
  const keysFile = join(hub.dir, "keys.json");
  await writeFile(keysFile, keysText ?? JSON.stringify({ keys: [ALL] }), { mode: 0o600 });
  const all = {
    ...hub.env,
    HUB_PORT: "0",
    HUB_KEYS_FILE: keysFile,
    HUB_STATE_DIR: join(hub.dir, `other${stateDirs++}`),
    ...env,
  };
  const error: unknown = await (async () => serveNode(readNodeConfig(all), all, () => {}))().then(
    async (serving) => serving.stop(),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).message.replaceAll(hub.dir, "DIR");
}

test("on a public address the Hub does not start without keys, and its message says what to do", async () => {
  const said = await refusal({ keys: [], env: { HUB_HOST: "0.0.0.0" } });
  expect(said).toMatch(
    /HUB_HOST.*0\.0\.0\.0 is not loopback.*npm run -s keys -- create --file .*HUB_ALLOW_OPEN=1/s,
  );
});

test("on a public address the Hub starts without keys when HUB_ALLOW_OPEN is set", async () => {
  await using hub = await startHub({ keys: [] });
  const env = { ...hub.env, HUB_STATE_DIR: join(hub.dir, "other"), HUB_HOST: "0.0.0.0", HUB_ALLOW_OPEN: "1" };
  await using server = await startServerProcess(env);
  expect((await fetch(`${server.url}/api/v1/scripts`)).status).toBe(200);
  expect(server.output.stdout).toContain("NO API KEYS");
});

const SECRET = "sk_live_never_shown";

test.for([
  [
    "cut off",
    `{"keys": [\n{"name": "a", "key": "${SECRET}"`,
    "it is not valid JSON (line 2, column 43). Correct it there",
  ],
  ["without keys", `{"name": "${SECRET}"}`, "keys: is missing"],
  [
    "with a key that can be guessed",
    JSON.stringify({ keys: [ALL, { name: "b", key: SECRET.slice(0, 15), scopes: ["*"] }] }),
    "keys.1.key: must have at least 16 characters, or it can be guessed. Create one with `npm run keys -- create`",
  ],
  [
    "with the sample key of the API document",
    JSON.stringify({ keys: [{ name: "acme-prod", key: "sk_live_LONG_RANDOM_STRING", scopes: ["*"] }] }),
    "keys.0.key: must not be the sample key of the documentation",
  ],
  [
    "with a scope that is none",
    JSON.stringify({ keys: [ALL, { name: "b", key: SECRET, scopes: ["admin"] }] }),
    "keys.1.scopes.0: ",
  ],
  [
    "with a key of two words",
    JSON.stringify({ keys: [{ name: "b", key: `${SECRET} x`, scopes: ["*"] }] }),
    "keys.0.key: ",
  ],
  [
    "with an expiry that is none",
    JSON.stringify({ keys: [{ ...ALL, key: SECRET, expires: "soon" }] }),
    "keys.0.expires: must be a date",
  ],
  [
    "with two lists of keys",
    `{"keys": [${JSON.stringify(ALL)}], "keys": []}`,
    "keys: is given more than once",
  ],
  [
    "with a name that is a key, twice",
    `{"keys": [], "${SECRET}": 1, "${SECRET}": 2}`,
    "?: is given more than once",
  ],
  ...["expire", "Expires", "expirse", "expiry", "expires_at", "expiration", "exp"].map(
    (name) =>
      [
        `with an expiry that is called ${name}`,
        JSON.stringify({ keys: [{ ...ALL, key: SECRET, [name]: "2020-01-01" }] }),
        `keys.0: unknown field ${name}; did you mean expires?`,
      ] as const,
  ),
  [
    "with one key twice",
    JSON.stringify({
      keys: [
        { ...ALL, key: SECRET },
        { ...OTHER, key: SECRET },
      ],
    }),
    "keys.1: duplicate key",
  ],
] as const)("a keys file %s stops the start, and is not quoted", async ([, keysText, where]) => {
  const said = await refusalHere({ keysText });
  expect(said).toContain("HUB_KEYS_FILE: DIR/keys.json: ");
  expect(said).toContain(where);
  expect(said).not.toContain(SECRET);
});

test("wrong settings stop the start, and the message has each one's name and value", async () => {
  const said = await refusal({
    env: {
      HUB_PORT: "80800",
      HUB_KV: "redis://x",
      HUB_HOSTS: "http://a",
      HUB_TRUSTED_PROXIES: "10.0.0.0/33",
      HUB_ALLOW_OPEN: "yes",
      HUB_HOST: "",
    },
  });
  expect(said).toContain('HUB_PORT: must be a port number, but it is "80800"');
  expect(said).toContain('HUB_KV: must be memory: or sqlite:PATH, but it is "redis://x"');
  expect(said).toContain(
    'HUB_HOSTS: must be host names without ports, comma separated, but it is "http://a"',
  );
  expect(said).toContain(
    'HUB_TRUSTED_PROXIES: must be addresses, ranges such as 10.0.0.0/8 or unix, comma separated, but it is "10.0.0.0/33"',
  );
  expect(said).toContain('HUB_ALLOW_OPEN: must be 0 or 1, but it is "yes"');
  expect(said).toContain('HUB_HOST: must not be empty, but it is ""');
});

test.for([
  ["HUB_PORT", "http", '"http"'],
  ["HUB_PORT", "-1", '"-1"'],
  ["HUB_HOST", "no.such.host.invalid", "no.such.host.invalid"],
  ["HUB_KEYS_FILE", "", '""'],
  ["HUB_KEYS_FILE", "/", "/ cannot be read"],
  ["HUB_KV", "sqlite:/dev/null/kv.db", "/dev/null/kv.db"],
  ["HUB_STATE_DIR", "", 'must not be empty, but it is ""'],
  ["HUB_STATE_DIR", "/dev/null/state", "/dev/null/state"],
  ["HUB_SCRIPT_ROOTS", "/tmp:scripts", '"scripts"'],
  ["HUB_SCRIPT_ROOTS", "/etc/passwd", "is a file; name the folder"],
  ["HUB_RECIPES_FILE", "", '""'],
  ["HUB_MAX_RUNNING", "0", 'must be at least 1, but it is "0"'],
  ["HUB_MAX_LOGS_BYTES", "10g", 'must be a whole number of bytes, but it is "10g"'],
  ["HUB_MAX_LOGS_BYTES", "1000", 'must be 0, for no limit, or at least 1048576, but it is "1000"'],
  ["HUB_KEEP_RUNS_DAYS", "-1", 'must be a whole number, 0 or more, but it is "-1"'],
  ["HUB_MAX_RUNNING", "many", '"many"'],
] as const)("%s=%s stops the start and names itself and the value", async ([name, value, quoted]) => {
  const said = await refusalHere({ env: { [name]: value } });
  expect(said).toContain(name);
  expect(said).toContain(quoted);
});

test("settings that are probably a mistake are reported at the start, once each, in the log", async () => {
  await using hub = await startHub({ keys: [{ ...ALL, expires: "2020-01-01" } as typeof ALL] });
  await chmod(hub.keysFile, 0o644);
  const missing = join(hub.dir, "missing");
  await using server = await startServerProcess({
    ...hub.env,
    HUB_STATE_DIR: join(hub.dir, "other"),
    HUB_SCRIPT_ROOTS: `${missing}:/`,
    HUB_PROT: "1",
    HUB_NONSENSE: "1",
  });
  const warnings = [
    "HUB_PROT is not a setting; did you mean HUB_PORT?",
    "HUB_NONSENSE is not a setting",
    `HUB_SCRIPT_ROOTS: ${missing} does not exist; nothing in it can be launched`,
    "HUB_SCRIPT_ROOTS: / lets every script of this host be launched",
    `HUB_KEYS_FILE: ${hub.keysFile} is open to other users; close it with chmod 600`,
    `all API keys have expired: every request is refused. Create a key: npm run -s keys -- create --file ${hub.keysFile} --name NAME --scopes '*'`,
  ];
  await until(() => server.output.stderr.includes("expired") || undefined);
  const logged = server.output.stderr.split("\n").filter((line) => line.includes('"event":"start"'));
  expect(logged.map((line) => JSON.parse(line).warning)).toEqual(warnings);
  expect(server.output.stdout).not.toContain("Warning");
});

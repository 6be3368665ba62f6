import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { rm } from "node:fs/promises";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";
import { startHub, until } from "../../support/hub.ts";
import { openDisk } from "../../behaviour/prove/disk.ts";

import { dir, file, eachInItsFolder, setServicePort, useFile, keys, create, stored } from "./keys-command.ts";

const PAIRING = new URL("../../../adapters/keys/agent-pair.ts", import.meta.url).href;
const EDITING = new URL("../../../adapters/keys/editing.ts", import.meta.url).href;

/** Space for the lock and a part of a large keys file. */
const ROOM_BYTES = 12_288;

eachInItsFolder();

test("keys create prints the key once, stores its hash, and makes the file readable for its owner only", async () => {
  const { code, stdout, stderr } = await create("acme-prod", "--expires", "2099-01-31");

  const key = stdout.trim();
  expect({ code, key }).toEqual({ code: 0, key: expect.stringMatching(/^sk_live_[\w-]{43}$/) });
  expect(stderr).not.toContain(key);
  expect(stderr).toContain(`The key acme-prod is in ${file}. It is not shown again:`);
  expect((await stored()).keys).toEqual([
    {
      name: "acme-prod",
      key_sha256: sha256(key),
      scopes: ["pipelines:read", "scripts:write"],
      created: expect.stringMatching(/^\d{4}-\d\d-\d\d$/),
      expires: "2099-01-31",
    },
  ]);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
});

test("keys create does not claim that a service requires the key which reads another keys file", async () => {
  await using hub = await startHub({ keys: [] });
  setServicePort(new URL(hub.url).port);

  const elsewhere = await create("a");
  expect(elsewhere.stderr).toContain(`The service at ${hub.url} does not use this file: its mode is dev.`);
  expect(elsewhere.stderr).toContain(`HUB_KEYS_FILE=${file}`);
  expect(elsewhere.stderr).not.toContain("refused from this moment");

  const here = await create("a", "--file", hub.keysFile);
  expect(here.stderr).toContain(`The service at ${hub.url} requires API keys.`);
  expect(here.stdout).toMatch(/^sk_live_[\w-]{43}\n$/);
});

test("keys create reports that no service answers, and how to start one with this file", async () => {
  const { stderr } = await create("a");
  expect(stderr).toContain(
    `No service answers at http://127.0.0.1:1. One that is started with HUB_KEYS_FILE=${file} requires a key.`,
  );
});

test("keys create --plain stores the key itself, and every key is different", async () => {
  const first = await create("a", "--plain");
  const second = await create("b", "--plain");
  expect((await stored()).keys.map(({ key }) => key)).toEqual([first.stdout.trim(), second.stdout.trim()]);
  expect(first.stdout).not.toBe(second.stdout);
});

test("keys create creates the folder, and --file selects another file", async () => {
  const other = join(dir, "deep", "er", "keys.json");
  expect((await create("a", "--file", other)).code).toBe(0);
  expect(JSON.parse(await readFile(other, "utf8")).keys).toHaveLength(1);
  expect((await stat(join(dir, "deep", "er"))).mode & 0o777).toBe(0o700);
  expect(await readdir(dir)).toEqual(["deep"]);
});

test("keys list shows names, scopes and dates, and no key", async () => {
  const { stdout: key } = await create("acme-prod", "--plain", "--expires", "2099-01-31");
  await keys("create", "--name", "all", "--scopes", "*");
  const { code, stdout } = await keys("list");
  expect(code).toBe(0);
  expect(stdout).toMatch(/^acme-prod +pipelines:read,scripts:write +[\d-]{10} +2099-01-31 +plain +all$/m);
  expect(stdout).toMatch(/^all +\* +[\d-]{10} +never +sha256 +all$/m);
  expect(stdout).not.toContain(key.trim());
  expect(stdout).not.toMatch(/[0-9a-f]{64}/);
});

test("keys revoke removes one key; it removes the last one only with --last", async () => {
  await create("a");
  await create("b");
  expect((await keys("revoke", "a")).code).toBe(0);
  expect((await stored()).keys.map(({ name }) => name)).toEqual(["b"]);

  const refused = await keys("revoke", "b");
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("dev mode") });
  expect((await stored()).keys).toHaveLength(1);

  const last = await keys("revoke", "b", "--last");
  expect(last).toMatchObject({ code: 0, stderr: expect.stringContaining("open now to everyone") });
  expect(await stored()).toEqual({ keys: [] });
});

test("a change of the keys file keeps unknown fields, other keys and their order", async () => {
  const old = {
    note: "ours",
    keys: [{ owner: "ops", name: "old", key: "sk_live_old_0123456789", scopes: ["*"], nested: { a: 1 } }],
    version: 3,
  };
  await writeFile(file, JSON.stringify(old), { mode: 0o644 });
  await create("new");
  const { keys: now, ...rest } = await stored();
  expect(rest).toEqual({ note: "ours", version: 3 });
  expect(JSON.stringify(now[0])).toBe(JSON.stringify(old.keys[0]));
  expect((await stat(file)).mode & 0o777).toBe(0o600);
});

test("a symbolic link to the keys file stays a link after a change", async () => {
  await mkdir(join(dir, "real"));
  await writeFile(join(dir, "real", "keys.json"), '{"keys": []}');
  await symlink(join(dir, "real", "keys.json"), file);
  await create("a");
  expect(JSON.parse(await readFile(join(dir, "real", "keys.json"), "utf8")).keys).toHaveLength(1);
});

test.for([
  ["no command", [], "A command is missing"],
  ["another command", ["destroy"], "destroy"],
  ["an unknown option", ["list", "--all"], "--all"],
  ["an option of another command", ["list", "--plain"], "--plain"],
  ["no name", ["create", "--scopes", "*"], "--name: is missing"],
  ["an empty name", ["create", "--name", "", "--scopes", "*"], "--name"],
  ["a name of two lines", ["create", "--name", "a\nb", "--scopes", "*"], "--name: must be printable"],
  ["no scopes", ["create", "--name", "a"], "--scopes: is missing"],
  ["an unknown scope", ["create", "--name", "a", "--scopes", "pipelines:read,admin"], "pipelines:write"],
  ["empty scopes", ["create", "--name", "a", "--scopes", ""], "--scopes"],
  [
    "a date that does not exist",
    ["create", "--name", "a", "--scopes", "*", "--expires", "2027-02-30"],
    "--expires: must be a date",
  ],
  [
    "a date in the past",
    ["create", "--name", "a", "--scopes", "*", "--expires", "2020-02-28"],
    "--expires: 2020-02-28 is in the past",
  ],
  ["an unexpected argument", ["create", "x", "--name", "a", "--scopes", "*"], "Unexpected argument"],
  ["no name to revoke", ["revoke"], "the name of the key is missing"],
] as const)(
  "keys reports %s as a usage error in a sentence, and writes nothing",
  async ([, args, sentence]) => {
    const { code, stdout, stderr } = await keys(...args);
    expect({ code, stdout }).toEqual({ code: 64, stdout: "" });
    expect(stderr).toContain(sentence);
    expect(stderr).not.toContain("    at ");
    expect(await readdir(dir)).toEqual([]);
  },
);

test("keys refuses a name that exists or is unknown, and a malformed file, and changes nothing", async () => {
  await create("a");
  const before = await readFile(file, "utf8");
  expect(await create("a")).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringContaining("The key a exists already"),
  });
  expect(await keys("revoke", "nobody")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("nobody"),
  });
  expect(await readFile(file, "utf8")).toBe(before);

  const broken = '{"keys": [{"name": "a", "key": "sk_live_secret_0123", "scopes": ["admin"]}]}';
  const calls = [["create", "--name", "b", "--scopes", "*"], ["list"], ["revoke", "a"]];
  for (const [i, text] of [broken, `{"keys": "sk_live_secret"`, ""].entries()) {
    await writeFile(file, text);
    const { code, stdout, stderr } = await keys(...calls[i]!);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain(file);
    expect(stderr).not.toContain("sk_live_secret");
    expect(await readFile(file, "utf8")).toBe(text);
  }
});

test("keys --help shows all commands and options", async () => {
  const { code, stdout } = await keys("--help");
  expect(code).toBe(0);
  for (const word of [
    "create",
    "list",
    "revoke",
    "--name",
    "--scopes",
    "--expires",
    "--plain",
    "--file",
    "HUB_KEYS_FILE",
  ]) {
    expect(stdout).toContain(word);
  }
});

/** A process that adds `count` keys named after it, one after the other, as the command does. */
function startAdding(name: string, count: number): ChildProcess {
  const program = `
    import { editKeys } from ${JSON.stringify(EDITING)};
    for (let i = 0; i < ${count}; i++) {
      const entry = { name: "${name}-" + i, key_sha256: "0".repeat(64), scopes: ["*"] };
      editKeys(${JSON.stringify(file)}, (old) => ({ ...old, keys: [...old.keys, entry] }));
    }`;
  return startProgram(program);
}

function startProgram(program: string): ChildProcess {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: "inherit" });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

const closing = (child: ChildProcess) =>
  new Promise<number | null>((resolve) => child.once("close", resolve));

test("no key is lost when several are created at the same time", async () => {
  const commands = ["a", "b", "c"].map((name) => create(name));
  const adding = ["x", "y", "z"].map((name) => closing(startAdding(name, 20)));
  expect(await Promise.all(adding)).toEqual([0, 0, 0]);
  expect((await Promise.all(commands)).map(({ code }) => code)).toEqual([0, 0, 0]);
  const names = (await stored()).keys.map(({ name }) => name);
  expect(names).toHaveLength(63);
  expect(new Set(names).size).toBe(63);
});

test("a change that is killed leaves the complete old or new keys file, and the next change succeeds", async () => {
  await create("first");
  let known = 1;
  for (let i = 0; i < 8; i++) {
    const child = startAdding(`writer-${i}`, 1_000_000);
    const closed = closing(child);
    const before = known;
    await until(async () => (await stored()).keys.length > before + i || undefined);
    child.kill("SIGKILL");
    await closed;
    const { keys: now } = await stored();
    expect(now.length).toBeGreaterThan(before);
    expect(now[0]!.name).toBe("first");
    known = now.length;
  }
  // One that died between its draft and the rename.
  await writeFile(join(dir, ".keys.json.draft"), "half", { mode: 0o600 });

  expect((await create("last")).code).toBe(0);

  expect((await stored()).keys.at(-1)!.name).toBe("last");
  expect((await readdir(dir)).filter((name) => name.endsWith("draft"))).toEqual([]);
});

test("no key is lost when several are added to the trust file at the same time", async () => {
  const trust = join(dir, "trusted_keys.json");
  const program = `
    import { makeAgentKey, trustKey } from ${JSON.stringify(PAIRING)};
    for (let i = 0; i < 60; i++) {
      const { d, ...publicKey } = await makeAgentKey();
      trustKey(${JSON.stringify(trust)}, publicKey);
    }`;
  const pairing = ["x", "y", "z"].map(() => closing(startProgram(program)));
  expect(await Promise.all(pairing)).toEqual([0, 0, 0]);
  expect(JSON.parse(await readFile(trust, "utf8")).keys).toHaveLength(180);
  expect((await stat(trust)).mode & 0o777).toBe(0o600);
});

test("the old keys file stays when the disk can hold only a part of the new one", async (context) => {
  const folder = join(dir, "disk");
  const { kind, fill, remove } = openDisk(folder);
  try {
    if (kind !== "tmpfs") context.skip("unshare may not mount here");
    useFile(join(folder, "keys.json"));
    expect(await closing(startAdding("many", 200))).toBe(0);
    const before = await readFile(file, "utf8");
    const filler = join(folder, "filler");
    await writeFile(filler, "x".repeat(ROOM_BYTES));
    fill([]);
    await rm(filler);

    const { code, stdout, stderr } = await create("one more");

    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toBe(`${file} cannot be written: ENOSPC\n`);
    expect(await readFile(file, "utf8")).toBe(before);
  } finally {
    remove();
  }
});

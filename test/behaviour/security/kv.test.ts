import { mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";
import { kvKeys } from "../../../adapters/workers/keys-kv.ts";
import { memoryKV } from "../../../adapters/node/kv-memory.ts";
import { sqliteKV } from "../../../adapters/node/kv-sqlite.ts";
import { workersKV } from "../../../adapters/workers/kv-workers.ts";
import { agentClient } from "../../../handlers/agent-client.ts";
import { httpTransport } from "../../../handlers/agent-transport.ts";
import { createApp } from "../../../handlers/app.ts";
import { authorize } from "../../../handlers/auth.ts";
import { parseKeys } from "../../../handlers/keys.ts";
import type { KV } from "../../../handlers/kv.ts";
import { startAgent } from "../../../host-agent/agent.ts";
import { createServer } from "../../../host-agent/door/server.ts";
import { until } from "../../support/hub.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";
const HOUR_MS = 3_600_000;
const SECRET = "what-only-the-victim-may-see";
const VICTIM = { name: "victim", key: "sk_test_victim_0123456789", scopes: ["*"] };
/** May launch recipes, and read nothing. */
const CLIENT = { name: "client", key: "sk_test_client_0123456789", scopes: ["pipelines:write"] };

type Json = Record<string, any>;
type World = Awaited<ReturnType<typeof startWorld>>;

/** The forged entry of a launch of the client: `mine` is the entry that the KV would hold. */
const FORGERIES: [string, (forger: { mine: Json; theirs: Json; script: Json; old: Json }) => string][] = [
  ["another key's run", ({ mine, theirs }) => entry(mine, theirs)],
  ["a run of the other surface", ({ mine, script }) => entry(mine, script)],
  [
    "another key's run in disguise",
    ({ mine, theirs }) => entry(mine, { ...mine["run"], run_id: theirs["run_id"] }),
  ],
  [
    "a script's run in disguise",
    ({ mine, script }) => entry(mine, { ...mine["run"], run_id: script["run_id"] }),
  ],
  ["a run of another request", ({ mine, old }) => entry(mine, old)],
  ["a run that does not exist", ({ mine }) => entry(mine, { ...mine["run"], run_id: "run_000000000000" })],
  ["an id that is a path", ({ mine }) => entry(mine, { ...mine["run"], run_id: "../health" })],
  ["an id of an object", ({ mine }) => entry(mine, { ...mine["run"], run_id: "__proto__" })],
  ["a source of an object", ({ mine }) => entry(mine, { ...mine["run"], source: "constructor" })],
  ["another fingerprint", ({ mine }) => JSON.stringify({ ...mine, fingerprint: "0".repeat(64) })],
  ["the name of a prototype", ({ mine }) => `{"__proto__": ${JSON.stringify(mine)}}`],
  ["a prototype with all rights", () => '{"constructor": {"prototype": {"replayed": true}}}'],
  ["no JSON", () => "\0\xff{"],
  ["half an entry", ({ mine }) => JSON.stringify(mine).slice(0, -40)],
  ["a list", () => "[]"],
  ["a number", () => "1e999"],
  ["nothing", () => ""],
  ["a deep pit", () => "[".repeat(500_000)],
  [
    "millions of things",
    ({ mine }) => `{"junk": [${"[],".repeat(2_000_000)}0], ${JSON.stringify(mine).slice(1)}`,
  ],
];

/** Each KV, with a way to write into it behind the back of the API. */
const STORES: [string, (dir: string) => { kv: KV; forge(key: string, value: string): Promise<void> }][] = [
  [
    "in memory",
    () => {
      const kv = memoryKV({ now: () => 0 });
      return { kv, forge: (key, value) => kv.put(key, value, { ttlSeconds: 60 }) };
    },
  ],
  [
    "in SQLite",
    (dir) => {
      const file = join(dir, "kv.db");
      return {
        kv: sqliteKV(file),
        // As anyone who can write the file.
        async forge(key, value) {
          using db = new DatabaseSync(file);
          db.prepare("INSERT OR REPLACE INTO kv VALUES (?, ?, ?)").run(key, value, Number.MAX_SAFE_INTEGER);
        },
      };
    },
  ],
  [
    "of Workers",
    () => {
      const entries = new Map<string, string>();
      return {
        kv: workersKV({
          get: async (key) => entries.get(key) ?? null,
          put: async (key, value) => void entries.set(key, value),
        }),
        forge: async (key, value) => void entries.set(key, value),
      };
    },
  ],
];

describe.for(STORES)("a KV %s with forged entries", ([, open]) => {
  let world: World;
  beforeAll(async () => {
    world = await startWorld(open);
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test("starts no launch a second time, reveals no run of another client and fails no launch", async () => {
    const theirs = (await world.launch(VICTIM, PIPELINES, { recipe_id: "job", args: SECRET }, "k")).json;
    const script = (await world.launch(VICTIM, SCRIPTS, { path: world.script, args: SECRET }, "k")).json;
    const old = (await world.launch(CLIENT, PIPELINES, { recipe_id: "job", args: "old" }, "old")).json;
    const twin = (await world.launch(VICTIM, PIPELINES, { recipe_id: "job", args: "twin" }, "twin")).json;
    await world.forge(CLIENT, "twin", entry(entryFor({ recipe_id: "job", args: "twin" }, world.time), twin));
    const own = await world.launch(CLIENT, PIPELINES, { recipe_id: "job", args: "twin" }, "twin");
    expect(own, "the same request of another key").toMatchObject({
      replayed: false,
      json: { key_name: "client" },
    });
    for (const [what, forgery] of FORGERIES) {
      const body = { recipe_id: "job", args: `"${what}"` };
      const mine = { ...entryFor(body, world.time), run: { ...old, spec: body } };
      await world.forge(CLIENT, what, forgery({ mine, theirs, script, old }));

      const first = await world.launch(CLIENT, PIPELINES, body, what);
      const again = await world.launch(CLIENT, PIPELINES, body, what);

      for (const { status, text } of [first, again]) {
        expect(status, what).toBe(201);
        expect(text, what).not.toContain(SECRET);
      }
      expect(first.json, what).toMatchObject({ source: "pipeline", spec: body, key_name: "client" });
      expect(first.replayed, `${what} is not a run of this launch`).toBe(false);
      expect(again, what).toMatchObject({ replayed: true, json: { run_id: first.json["run_id"] } });
      expect(await world.starts(what), what).toBe(1);
    }
  });

  test("reveals no run of another client while the agent is unreachable, but can show a made-up run as the client's own", async () => {
    const theirs = (await world.launch(VICTIM, PIPELINES, { recipe_id: "job", args: SECRET }, "k2")).json;
    const body = { recipe_id: "job", args: "away" };
    const mine = entryFor(body, world.time);
    await world.forge(CLIENT, "away", entry(mine, theirs));
    const made = { ...theirs, spec: body, key_name: "client", run_id: "run_000000000000", cmd: "made up" };
    await world.forge(CLIENT, "made", entry(mine, made));
    const long = `{"junk": "${"x".repeat(2_000_000)}", ${entry(mine, made).slice(1)}`;
    await world.forge(CLIENT, "long", long);
    world.reachable = false;
    expect((await world.launch(CLIENT, PIPELINES, body, "long")).status, "too long to be looked at").toBe(
      503,
    );
    const answer = await world.launch(CLIENT, PIPELINES, body, "away");
    const madeUp = await world.launch(CLIENT, PIPELINES, body, "made");
    world.reachable = true;
    expect(madeUp).toMatchObject({ status: 201, stale: true, json: made });
    expect(answer).toMatchObject({ status: 503, json: { code: "agent_unavailable" } });
    expect(answer.text).not.toContain(SECRET);
    expect(await world.starts("away")).toBe(0);
  });

  test("blocks no Idempotency-Key from a new launch after its hour, whatever date the entry has", async () => {
    const body = { recipe_id: "job", args: "late" };
    const first = await world.launch(CLIENT, PIPELINES, body, "late");
    const mine = entryFor(body, world.time);
    world.time += HOUR_MS + 1_000;
    await world.forge(CLIENT, "late", JSON.stringify({ ...mine, run: first.json, expires_at: 9e12 }));
    const next = await world.launch(CLIENT, PIPELINES, body, "late");
    expect(next).toMatchObject({ status: 201, replayed: false });
    expect(await world.starts("late")).toBe(2);
  });
});

describe("a keys file in a KV with forged entries", () => {
  const GOOD = { name: "acme", key: "sk_live_good_0123456789", scopes: ["scripts:read"] };
  const FORGED = "sk_live_forged_0123456789";
  const forged = { name: "forged", key: FORGED, scopes: ["*"] };

  /** What no keys file looks like. Each holds a key that must open nothing. */
  const WRONG: Record<string, string> = {
    "scopes as one string": keys({ ...forged, scopes: "*" }),
    "scopes of no list": keys({ ...forged, scopes: { 0: "*", length: 1, includes: true } }),
    "scopes that are not known": keys({ ...forged, scopes: ["admin"] }),
    "scopes of a prototype": keys({ ...forged, scopes: ["__proto__", "constructor"] }),
    "no scopes": keys({ ...forged, scopes: [] }),
    "a key that is a number": keys({ ...forged, key: 7 }),
    "a key and a digest": keys({ ...forged, key_sha256: sha256(FORGED) }),
    "a digest in capitals": keys({ ...forged, key: undefined, key_sha256: sha256(FORGED).toUpperCase() }),
    "no name": keys({ ...forged, name: "" }),
    "a name of two lines": keys({ ...forged, name: 'a\n{"level":"info"}' }),
    "an end that is not a date": keys({ ...forged, expires: "never" }),
    "an end that is a number": keys({ ...forged, expires: 9e15 }),
    "one key twice": keys(GOOD, { ...GOOD, scopes: ["*"] }, forged),
    "a good key next to a wrong one": keys(forged, { name: "x" }),
    "an entry that is null": keys(forged, null),
    "a prototype that is a list of keys": `{"__proto__": ${keys(forged)}}`,
    "a prototype in the entry": `{"keys": [{"__proto__": ${JSON.stringify(forged)}}]}`,
    "keys by name": JSON.stringify({ keys: { forged } }),
    "a list alone": JSON.stringify([forged]),
    "a string": JSON.stringify(keys(forged)),
    "no JSON": `${keys(forged)}}`,
    nothing: "",
    "a deep pit": `{"keys": ${"[".repeat(300_000)}`,
  };

  test("is ignored if it is not a keys file: the last good keys stay, and no other key is accepted", async () => {
    for (const [what, text] of Object.entries(WRONG)) {
      const store = { text: keys(GOOD), time: 0 };
      const warm = ringOf(store);
      const cold = ringOf({ text, time: 0 });
      expect(await answerTo(warm, GOOD.key)).toBe("acme");
      store.text = text;
      store.time += 60_000;
      expect(await answerTo(warm, FORGED), what).toBe("unauthenticated");
      expect(await answerTo(warm, GOOD.key), what).toBe("acme");
      for (const key of [FORGED, GOOD.key, "7", "__proto__"]) {
        expect(await answerTo(cold, key), what).toBe("keys_unavailable");
      }
    }
  });

  test("accepts no expired key, and no key beyond its scopes", async () => {
    const ring = ringOf({ text: keys(GOOD, { ...forged, expires: "1969-12-30" }), time: 0 });
    expect(await answerTo(ring, FORGED)).toBe("unauthenticated");
    expect(await answerTo(ring, GOOD.key, "scripts:write")).toBe("insufficient_scope");
    for (const key of ["__proto__", "constructor", sha256(GOOD.key), ""]) {
      expect(await answerTo(ring, key), key).toBe("unauthenticated");
    }
  });

  test("is in effect if it is well-formed: who can write to the KV controls the keys", async () => {
    const store = { text: keys(GOOD), time: 0 };
    const ring = ringOf(store);
    await answerTo(ring, GOOD.key);
    store.text = keys(forged);
    store.time += 60_000;
    expect(await answerTo(ring, FORGED)).toBe("forged");
    expect(await answerTo(ring, GOOD.key)).toBe("unauthenticated");
  });
});

function keys(...entries: unknown[]): string {
  return JSON.stringify({ keys: entries });
}

function ringOf(store: { text: string; time: number }) {
  return kvKeys({ get: async () => store.text }, { devMode: false, digest: sha256, now: () => store.time });
}

/** The name under which a key is let in, or the code of its refusal. */
async function answerTo(
  ring: ReturnType<typeof kvKeys>,
  key: string,
  scope: "scripts:read" | "scripts:write" = "scripts:read",
): Promise<string> {
  const request = new Request("http://hub/", { headers: { authorization: `Bearer ${key}` } });
  return authorize(request, scope, { ring: await ring(), digest: sha256, now: 0 }).then(
    ({ name }) => name,
    (error: { code: string }) => error.code,
  );
}

function entry(mine: Json, run: Json): string {
  return JSON.stringify({ ...mine, run });
}

/** The API with keys, over a real agent and a KV that can be written into. */
async function startWorld(open: (typeof STORES)[number][1]) {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "kv-")));
  const script = join(dir, "job.sh");
  await writeFile(script, `echo "$*" >>"${dir}/ledger"\n`);
  await writeFile(
    join(dir, "recipes.json"),
    JSON.stringify({
      recipes: [{ recipe_id: "job", title: "Job", description: "", command: ["/bin/bash", script] }],
    }),
  );
  const world = { time: Date.now(), reachable: true, dir, script };
  const agent = await startAgent(
    {
      stateDir: join(dir, "state"),
      scriptRoots: [dir],
      recipesFile: join(dir, "recipes.json"),
      maxRunning: 64,
      callbacks: { hosts: [], secrets: [] },
    },
    { PATH: process.env["PATH"] },
    () => {},
    () => world.time,
  );
  const serve = createServer(agent.operations, () => {});
  const { kv, forge } = open(dir);
  const ring = await parseKeys(keys(VICTIM, CLIENT), sha256);
  const app = createApp({
    agent: agentClient(
      httpTransport({
        url: "http://host-agent",
        fetch: (request) => (world.reachable ? serve(request) : Promise.reject(new TypeError("refused"))),
      }),
    ),
    kv,
    keys: () => ring,
    digest: sha256,
    log: () => {},
    now: () => world.time,
  });

  async function ask(who: typeof VICTIM, method: string, path: string, body?: object, headers = {}) {
    const response = await app.fetch(
      new Request(`http://hub${path}`, {
        method,
        headers: { authorization: `Bearer ${who.key}`, "content-type": "application/json", ...headers },
        ...(body && { body: JSON.stringify(body) }),
      }),
    );
    const text = await response.text();
    const replayed = response.headers.get("idempotent-replayed") === "true";
    const stale = response.headers.get("hub-stale") === "true";
    return { status: response.status, text, json: JSON.parse(text) as Json, replayed, stale };
  }

  const tokenOf = (who: typeof VICTIM, key: string) => `replay:${sha256(`pipeline\n${who.name}\n${key}`)}`;

  async function allEnded(): Promise<true> {
    return until(async () => {
      const lists = [PIPELINES, SCRIPTS].map((runs) => ask(VICTIM, "GET", `${runs}?status=running`));
      return (await Promise.all(lists)).every(({ json }) => json["runs"].length === 0) || undefined;
    });
  }

  return Object.assign(world, {
    launch: (who: typeof VICTIM, path: string, body: object, key: string) =>
      ask(who, "POST", path, body, { "idempotency-key": key }),
    forge: (who: typeof VICTIM, key: string, value: string) => forge(tokenOf(who, key), value),
    /** How often the job was started with these words. */
    async starts(words: string): Promise<number> {
      await allEnded();
      const ledger = await readFile(join(dir, "ledger"), "utf8");
      return ledger.split("\n").filter((line) => line === words).length;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await allEnded();
      await agent.close();
      await rm(dir, { recursive: true });
    },
  });
}

/** The entry of a launch, except for its run: anyone who knows the request can make one, as handlers/idempotency.ts does. */
function entryFor(body: object, time: number): Json {
  const sorted = Object.entries(body).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return { fingerprint: sha256(JSON.stringify(sorted)), expires_at: Math.floor(time / 1_000) + 3_600 };
}

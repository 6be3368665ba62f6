import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { unixFetch } from "../../../adapters/node/unix-fetch.ts";
import { sha256 } from "../../../host-agent/system/sha256.ts";
import { auditFile, auditOf, entries } from "../../support/audit-log.ts";
import { nodeRemote } from "../../support/deployments.ts";
import { ALL, type Hub, OTHER, startHub, until } from "../../support/hub.ts";
import { serverProcess } from "../../support/server-process.ts";
import { launchingRow, rewriteRow } from "../../support/runs.ts";

const SCRIPTS = "/api/v1/scripts/runs";
const NOBODY = "run_000000000000";

describe("the audit log has a line", () => {
  test("for the keys in force, and for each change of their file, also when it is broken or removed", async () => {
    await using hub = await startHub();
    const problems = async () => String((await hub.get("/healthz")).json.problems);
    const ofKeys = () => linesOf(hub, "keys");
    expect(ofKeys()).toMatchObject([{ outcome: "loaded", mode: "enforced" }]);

    await writeFile(hub.keysFile, JSON.stringify({ keys: [ALL] }));
    await until(async () => (await hub.get(SCRIPTS, { key: OTHER.key })).status === 401 || undefined);
    await writeFile(hub.keysFile, "{");
    await until(async () => (await problems()).includes("keys file is broken") || undefined);
    await rm(hub.keysFile);
    await until(async () => (await problems()).includes("keys file is gone") || undefined);
    await writeFile(hub.keysFile, JSON.stringify({ keys: [ALL, OTHER] }));
    await until(async () => (await problems()) === "" || undefined);

    expect(ofKeys()).toMatchObject([
      { outcome: "loaded", mode: "enforced" },
      { outcome: "loaded", mode: "enforced" },
      { outcome: "refused", mode: "enforced" },
      { outcome: "gone", mode: "enforced" },
      { outcome: "loaded", mode: "enforced" },
    ]);
  });

  test("for each catalogue of recipes, with its hash, and for one that was refused", async () => {
    await using hub = await startHub();
    const first = readFileSync(hub.recipesFile, "utf8");
    const second = JSON.stringify({ recipes: [] });
    await writeFile(hub.recipesFile, '{"recipes": [');
    await until(async () => (await hub.get("/healthz")).json.status === "degraded" || undefined);
    await writeFile(hub.recipesFile, second);
    await until(async () => (await hub.get("/healthz")).json.status === "ok" || undefined);

    expect(linesOf(hub, "recipes")).toMatchObject([
      { outcome: "loaded", recipes_sha256: sha256(first) },
      { outcome: "refused", recipes_sha256: null },
      { outcome: "loaded", recipes_sha256: sha256(second) },
    ]);
  });

  test("for a refused launch and a refused kill, one each, with the caller and the reason", async () => {
    await using hub = await startHub({ env: { HUB_MAX_RUNNING: "1" } });
    const path = await hub.script("long.sh", "sleep 60");
    const ask = (id: string, url: string, body?: object) =>
      hub.post(url, body, { key: OTHER.key, headers: { "x-request-id": id } });
    const { json: run } = await hub.post(SCRIPTS, { path });
    await ask("one-too-many", SCRIPTS, { path });
    await ask("nobody", `${SCRIPTS}/${NOBODY}/kill`, { signal: "SIGKILL" });
    await hub.kill(run);
    await hub.ended(run);
    const { json: other } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" });
    await hub.ended(other);
    await ask("over", `/api/v1/pipelines/runs/${other.run_id}/kill`);

    const who = { key_name: OTHER.name, argv_sha256: null };
    expect(entries(hub).filter(({ key_name }) => key_name === OTHER.name)).toMatchObject([
      { event: "launch", outcome: "too_many_runs", request_id: "one-too-many", run_id: null, ...who },
      { event: "kill", outcome: "run_not_found", request_id: "nobody", run_id: NOBODY, ...who },
      { event: "kill", outcome: "run_ended", request_id: "over", run_id: other.run_id, ...who },
    ]);
  });

  test("for a request over a rate, of a key and of an address without one", async () => {
    await using hub = await startHub({ env: { HUB_RATE_PER_KEY: "1", HUB_FAILED_AUTH_PER_MINUTE: "1" } });
    const ask = (id: string, key: string | null) =>
      hub.get(SCRIPTS, { key, headers: { "x-request-id": id } });
    await ask("within", ALL.key);
    await ask("over", ALL.key);
    await ask("unknown", null);
    await ask("unknown-again", null);
    expect(linesOf(hub, "refused")).toMatchObject([
      { outcome: "rate_limited", request_id: "over", key_name: ALL.name, address: "127.0.0.1" },
      { outcome: "unauthenticated", request_id: "unknown", key_name: null },
      { outcome: "rate_limited", request_id: "unknown-again", key_name: null, route: expect.anything() },
    ]);
  });

  test("for a request that is refused because the keys file cannot be used", async () => {
    await using hub = await startHub({ keys: [] });
    await writeFile(hub.keysFile, "{");
    await until(async () => (await hub.get(SCRIPTS)).status === 503 || undefined);
    expect(linesOf(hub, "keys").at(-1)).toMatchObject({ outcome: "refused", mode: "unavailable" });
    expect(linesOf(hub, "refused")[0]).toMatchObject({ outcome: "keys_unavailable", key_name: null });
  });

  test("for an interrupted launch that was recovered, and for a pruned run", async () => {
    await using hub = await startHub({ env: { HUB_KEEP_RUNS_DAYS: "1" } });
    const [broken, old] = [await hub.runScript("true"), await hub.runScript("true")];
    await Promise.all([hub.ended(broken), hub.ended(old)]);
    await hub.restart(async () => {
      await rm(join(hub.stateDir, "runs", broken.run_id), { recursive: true });
      rewriteRow(hub.stateDir, broken.run_id, launchingRow());
      rewriteRow(hub.stateDir, old.run_id, { ended_at: 1 });
    });
    await until(() => linesOf(hub, "prune")[0]);
    expect(linesOf(hub, "taken_up")).toMatchObject([
      { outcome: "failed", run_id: broken.run_id, key_name: ALL.name },
    ]);
    expect(linesOf(hub, "prune")).toMatchObject([
      { outcome: "forgotten", run_id: old.run_id, key_name: ALL.name },
    ]);
    expect(await auditOf(hub, "verify")).toMatchObject({ code: 0 });
  });

  test("for a request that the agent's door refused, and for each change of the trusted keys", async () => {
    await using hub = await startHub({ deploy: nodeRemote });
    const stranger = unixFetch(join(hub.dir, "agent.sock"));
    const knock = async () => (await stranger(new Request("http://host-agent/health"))).status;
    const trust = join(hub.dir, "trusted_keys.json");
    const good = readFileSync(trust, "utf8");
    expect(await knock()).toBe(401);
    await writeFile(trust, "{");
    await hub.get(SCRIPTS);
    await writeFile(trust, `${good}\n`);
    await hub.get(SCRIPTS);

    expect(
      entries(hub).filter(({ event }) => ["refused", "trusted_keys"].includes(String(event))),
    ).toMatchObject([
      { event: "refused", outcome: "unsigned", key_name: null, method: "GET" },
      { event: "trusted_keys", outcome: "refused" },
      { event: "trusted_keys", outcome: "loaded" },
    ]);
  });
});

test("audit lines that a full disk does not take are counted, /healthz reports it meanwhile, and no request is delayed", async () => {
  const pids: number[] = [];
  const deploy = serverProcess({ stopSignal: "SIGTERM", onStart: (pid) => pids.push(pid) });
  await using hub = await startHub({ deploy });
  const limitFiles = (bytes: number | "unlimited") =>
    execFileSync("prlimit", [`--pid=${pids.at(-1)}`, `--fsize=${bytes}:`]);
  const refuse = async () => expect((await hub.get(SCRIPTS, { key: null })).status).toBe(401);
  const problems = async () => (await hub.get("/healthz")).json.problems;
  await refuse();
  const before = entries(hub).length;
  limitFiles(statSync(auditFile(hub)).size);
  for (let i = 0; i < 3; i++) await refuse();
  expect(await problems()).toEqual(["the audit log cannot be written"]);
  limitFiles("unlimited");
  await refuse();

  expect(await problems()).toEqual([]);
  expect(entries(hub).slice(before)).toMatchObject([
    { event: "lost", outcome: "unwritten", count: 3 },
    { event: "refused", outcome: "unauthenticated" },
  ]);
  expect(await auditOf(hub, "verify")).toMatchObject({ code: 0 });
});

function linesOf(hub: Hub, event: string) {
  return entries(hub).filter((entry) => entry["event"] === event);
}

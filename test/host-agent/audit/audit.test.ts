import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, readFileSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, onTestFinished, test } from "vitest";

import { openAuditLog } from "../../../host-agent/audit/audit-log.ts";
import { sha256 } from "../../../host-agent/system/sha256.ts";
import { auditFile, auditOf, entries, tempLog } from "../../support/audit-log.ts";
import { nodeRemote } from "../../support/deployments.ts";
import { ALL, nodeEmbedded, OTHER, startHub, until } from "../../support/hub.ts";
import { serverProcess } from "../../support/server-process.ts";

const SCRIPTS = "/api/v1/scripts/runs";
const OTHER_AGENT = fileURLToPath(new URL("fixtures/hold-write-lock.ts", import.meta.url));

describe.for([
  ["embedded", nodeEmbedded],
  ["remote", nodeRemote],
] as const)("the audit log, with the agent %s,", ([, deploy]) => {
  test("has each launch, replay and kill with its caller, its object and its outcome, and no secret", async () => {
    await using hub = await startHub({ deploy, env: { HUB_KV: "memory:" } });
    const path = await hub.script("secret.sh", "sleep 60");
    const secrets = { args: "--password hunter2", idempotency: "idem-secret-key" };
    const launch = (id: string) =>
      hub.post(
        SCRIPTS,
        { path, args: secrets.args },
        { headers: { "x-request-id": id, "idempotency-key": secrets.idempotency } },
      );
    const { json: run } = await launch("launch-1");
    // The KV has forgotten it: the agent replays.
    await hub.restart();
    await launch("replay-1");
    await hub.post(
      `${SCRIPTS}/${run.run_id}/kill`,
      {},
      { key: OTHER.key, headers: { "x-request-id": "kill-1" } },
    );
    await hub.post(SCRIPTS, { path: "/etc/passwd.sh" }, { headers: { "x-request-id": "refused-1" } });

    const what = { source: "script", run_id: run.run_id, argv_sha256: sha256(run.cmd) };
    const lines = entries(hub).filter(({ event }) => ["launch", "replay", "kill"].includes(String(event)));
    expect(lines).toMatchObject([
      { event: "launch", outcome: "started", key_name: ALL.name, request_id: "launch-1", ...what },
      { event: "replay", outcome: "replayed", key_name: ALL.name, request_id: "replay-1", ...what },
      {
        event: "kill",
        outcome: "killed",
        key_name: OTHER.name,
        request_id: "kill-1",
        signal: "SIGTERM",
        ...what,
      },
      {
        event: "launch",
        outcome: "path_forbidden",
        key_name: ALL.name,
        request_id: "refused-1",
        run_id: null,
      },
    ]);
    const text = readFileSync(auditFile(hub), "utf8");
    for (const secret of [ALL.key, OTHER.key, "hunter2", secrets.idempotency])
      expect(text).not.toContain(secret);
    expect(statSync(auditFile(hub)).mode & 0o777).toBe(0o600);
    expect(await auditOf(hub, "verify")).toMatchObject({ code: 0 });
  });
});

test("refusals and changes of the edge are in the same audit log when the agent is embedded", async () => {
  await using hub = await startHub({
    keys: [ALL, { ...OTHER, scopes: ["pipelines:read"] }],
  });
  const path = await hub.script("a.sh", "true");
  const launch = (id: string) =>
    hub.post(SCRIPTS, { path }, { headers: { "x-request-id": id, "idempotency-key": "k" } });
  const { json: run } = await launch("a");
  await launch("from-the-kv");
  await hub.get(SCRIPTS, { key: null, headers: { "x-request-id": "no-key" } });
  await hub.get(SCRIPTS, { key: OTHER.key, headers: { "x-request-id": "no-scope" } });
  await hub.get("/api/v1/scripts/content?path=/etc/shadow", { headers: { "x-request-id": "outside" } });
  await writeFile(hub.recipesFile, "{");
  await until(async () => (await hub.get("/healthz")).json.status === "degraded" || undefined);
  await writeFile(hub.keysFile, JSON.stringify({ keys: [ALL] }));
  await until(async () => (await hub.get(SCRIPTS, { key: OTHER.key })).status === 401 || undefined);

  expect(entries(hub)).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ event: "replay", request_id: "from-the-kv", run_id: run.run_id }),
      expect.objectContaining({
        event: "refused",
        outcome: "unauthenticated",
        request_id: "no-key",
        key_name: null,
        address: "127.0.0.1",
      }),
      expect.objectContaining({ event: "refused", outcome: "insufficient_scope", request_id: "no-scope" }),
      expect.objectContaining({ event: "refused", outcome: "path_forbidden", request_id: "outside" }),
      expect.objectContaining({ event: "recipes", outcome: "refused" }),
      expect.objectContaining({ event: "keys", outcome: "loaded", mode: "enforced" }),
    ]),
  );
});

test("kill -9 loses no launch and no line of the audit log, and the chain continues", async () => {
  await using hub = await startHub({ deploy: serverProcess({ stopSignal: "SIGKILL" }) });
  const path = await hub.script("a.sh", "true");
  const ids: string[] = [];
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.all(Array.from({ length: 8 }, () => hub.post(SCRIPTS, { path })));
    ids.push(...answers.map(({ json }) => json.run_id as string));
    await hub.restart(() => {
      if (round === 0) appendFileSync(auditFile(hub), '{"seq":9,"time":"20');
    });
  }
  const lines = entries(hub);
  expect(
    lines
      .filter(({ event }) => event === "launch")
      .map(({ run_id }) => String(run_id))
      .toSorted(),
  ).toEqual(ids.toSorted());
  expect(lines.filter(({ event }) => event === "recovered")).toMatchObject([{ torn_bytes: 19 }]);
  expect(await auditOf(hub, "verify")).toMatchObject({ code: 0 });
});

test("a flood of refusals gets a hundred audit lines a minute, and the others are counted", async () => {
  let time = 0;
  const log = await tempLog(() => time);
  for (let i = 0; i < 1_000; i++) log.audit.recordRefusal({ event: "refused", outcome: "unauthenticated" });
  // A flood without a key hides nothing of what is done with one.
  log.audit.recordRefusal({ event: "refused", outcome: "insufficient_scope", key_name: "acme" });
  time += 60_000;
  log.audit.countRefusals();
  const lines = readFileSync(log.path, "utf8").trimEnd().split("\n");
  expect(lines).toHaveLength(102);
  expect(JSON.parse(lines.at(-2)!)).toMatchObject({ event: "refused", key_name: "acme" });
  expect(JSON.parse(lines.at(-1)!)).toMatchObject({ event: "refused_more", count: 900 });

  for (let i = 0; i < 102; i++) log.audit.recordRefusal({ event: "refused", outcome: "unauthenticated" });
  log.audit.close();
  const last = readFileSync(log.path, "utf8").trimEnd().split("\n").at(-1)!;
  expect(JSON.parse(last)).toMatchObject({ event: "refused_more", count: 2 });
});

test("a line of the audit log is written only while no other agent on the state folder writes", async () => {
  await using hub = await startHub();
  const args = [join(hub.stateDir, "runs.db"), auditFile(hub)];
  const other = spawn(process.execPath, [OTHER_AGENT, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void other.kill("SIGKILL"));
  await once(other.stdout, "data");
  const answer = hub.get(SCRIPTS, { key: null, headers: { "x-request-id": "no-key" } });
  const [grown] = (await once(other.stdout, "data")) as [Buffer];
  await answer;
  expect(String(grown)).toBe("0\n");
  expect(entries(hub)).toContainEqual(expect.objectContaining({ event: "refused", request_id: "no-key" }));
  expect(await auditOf(hub, "verify")).toMatchObject({ code: 0 });
});

test("a line that may not be written now, for another agent writes, is counted as lost by the next one", async () => {
  const { path } = await tempLog();
  let isFree = false;
  const audit = openAuditLog(path, {
    now: Date.now,
    log: () => {},
    knownHead: undefined,
    exclusively(work) {
      if (!isFree) throw new Error("database is locked");
      return work();
    },
  });
  onTestFinished(() => audit.close());
  audit.record({ event: "first", outcome: "ok" });
  expect(readFileSync(path, "utf8")).toBe("");
  expect(audit.problem()).toBe("the audit log cannot be written");
  isFree = true;
  audit.record({ event: "second", outcome: "ok" });
  expect(audit.problem()).toBeUndefined();
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
    { event: "lost", outcome: "unwritten", count: 1 },
    { event: "second" },
  ]);
});

test("an audit log that cannot be opened stops the start", async () => {
  await using hub = await startHub();
  const env = { HUB_AUDIT_FILE: hub.dir, HUB_STATE_DIR: join(hub.dir, "other") };
  await expect(nodeEmbedded({ dir: hub.dir, env: { ...hub.env, ...env } })).rejects.toThrow(
    /^HUB_AUDIT_FILE: /,
  );
});

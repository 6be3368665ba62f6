import { execFile } from "node:child_process";
import { appendFileSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { openAuditLog, sha256 } from "../host-agent/audit-log.ts";
import { verifyAuditLog } from "../host-agent/audit-verify.ts";
import { COMPILE_CACHE } from "./compile-cache.ts";
import { nodeRemote } from "./deployments.ts";
import { ALL, type Hub, nodeEmbedded, OTHER, startHub, until } from "./hub.ts";
import { serverProcess } from "./server-process.ts";

const CLI = join(import.meta.dirname, "..", "host-agent", "audit-cli.ts");
const SCRIPTS = "/api/v1/scripts/runs";

type Entry = Record<string, unknown>;

describe.for([
  ["embedded", nodeEmbedded],
  ["remote", nodeRemote],
] as const)("the audit log, with the agent %s,", ([, deploy]) => {
  test("has each launch, replay and kill with who, what and how it came out, and no secret", async () => {
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
    expect(await cli(hub, "verify")).toMatchObject({ code: 0 });
  });
});

test("what is refused and changed at the edge is in the same file when the agent is embedded", async () => {
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

test("no launch and no line is lost by kill -9, and the chain goes on", async () => {
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
  expect(await cli(hub, "verify")).toMatchObject({ code: 0 });
});

describe("verify", () => {
  test.for<[string, (lines: string[]) => string[], RegExp]>([
    ["a changed line", (l) => l.with(4, l[4]!.replace("event 5", "event X")), /: line 5: was changed/],
    [
      "a changed number",
      (l) => l.with(4, l[4]!.replace('"seq":5', '"seq":6')),
      /: line 5: the entry 5 was removed/,
    ],
    ["a line that is no entry", (l) => l.with(4, "hello"), /: line 5: was changed: it is no entry/],
    ["a removed line", (l) => l.toSpliced(4, 1), /: line 5: the entry 5 was removed or moved/],
    [
      "a removed first line",
      (l) => l.slice(1),
      /: line 1: the entries before 2 were removed, or lie in an older file: .*--after [0-9a-f]{64}/,
    ],
    ["removed last lines", (l) => l.slice(0, -3), /: line 8: is missing: the entries 8 to 10/],
    ["an emptied file", () => [], /: line 1: is missing: the entries 1 to 10/],
    ["a doubled line", (l) => l.toSpliced(4, 0, l[4]!), /: line 6: was inserted or moved/],
    [
      "a foreign line",
      (l) => l.toSpliced(4, 0, l[3]!.replace('"seq":4', '"seq":5')),
      /: line 4: was changed/,
    ],
    [
      "two lines in the other order",
      (l) => l.with(4, l[5]!).with(5, l[4]!),
      /: line 5: the entry 5 was removed or/,
    ],
    ["a changed last line", (l) => l.with(9, l[9]!.replace("event 10", "event X")), /: line 10: was changed/],
    ["a line made to look torn", (l) => l.with(4, l[4]!.slice(0, 20)), /: line 5: was changed/],
  ])("finds %s and says which", async ([, tamper, message]) => {
    const log = await tempLog();
    for (let i = 1; i <= 10; i++) log.audit.record({ event: `event ${i}`, outcome: "ok" });
    const head = log.audit.head();
    expect(verifyAuditLog(log.path, { head }).fault).toBeUndefined();
    const lines = readFileSync(log.path, "utf8").trimEnd().split("\n");
    writeFileSync(
      log.path,
      tamper(lines)
        .map((line) => `${line}\n`)
        .join(""),
    );

    expect(`: ${verifyAuditLog(log.path, { head }).fault}`).toMatch(message);
    const { code, stderr } = await command(["verify", log.path, "--head", `${head.seq}:${head.hash}`], {});
    expect({ code, isSaid: message.test(stderr) }).toEqual({ code: 1, isSaid: true });
  });

  test("knows the last line without being told, from the database", async () => {
    await using hub = await startHub();
    await hub.ended(await hub.runScript("true"));
    await hub.restart();
    const lines = readFileSync(auditFile(hub), "utf8").trimEnd().split("\n");
    expect(await cli(hub, "verify")).toMatchObject({ code: 0 });
    writeFileSync(auditFile(hub), `${lines.slice(0, 2).join("\n")}\n`);
    expect(await cli(hub, "verify")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("line 3: is missing"),
    });
    expect(await cli(hub, "nonsense")).toMatchObject({ code: 64 });
    expect(await command(["verify", join(hub.dir, "none")], hub.env)).toMatchObject({ code: 66 });
  });

  test("takes a line torn anywhere for one, once the next entry has healed it, and goes on", async () => {
    const log = await tempLog();
    for (let i = 1; i <= 3; i++) log.audit.record({ event: `event ${i}`, outcome: "ok" });
    const whole = readFileSync(log.path);
    const lastStart = whole.lastIndexOf("\n", whole.length - 2) + 1;
    for (let cut = lastStart + 1; cut < whole.length; cut += 13) {
      writeFileSync(log.path, whole.subarray(0, cut));
      expect(verifyAuditLog(log.path, {})).toMatchObject({ fault: undefined, tornBytes: cut - lastStart });
      log.audit.record({ event: "after", outcome: "ok" });
      log.audit.record({ event: "after", outcome: "ok" });
      expect(verifyAuditLog(log.path, { head: log.audit.head() })).toMatchObject({
        fault: undefined,
        lines: 6,
      });
    }
    // Even its newline alone may be missing; and the next agent heals it as well.
    writeFileSync(log.path, whole.subarray(0, -1));
    const next = open(log.path);
    next.record({ event: "after", outcome: "ok" });
    expect(verifyAuditLog(log.path, { head: next.head() })).toMatchObject({ fault: undefined, lines: 5 });
    next.close();
  });

  test("finds two agents that write to one file by turns in one chain", async () => {
    const log = await tempLog();
    const other = open(log.path);
    for (let i = 0; i < 20; i++) (i % 3 ? log.audit : other).record({ event: "turn", outcome: "ok" });
    other.close();
    expect(verifyAuditLog(log.path, { head: log.audit.head() })).toMatchObject({
      fault: undefined,
      lines: 20,
    });
  });
});

test("of a flood of refusals a hundred a minute have lines, the others are counted", async () => {
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

test("an audit log that cannot be opened stops the start", async () => {
  await using hub = await startHub();
  const env = { HUB_AUDIT_FILE: hub.dir, HUB_STATE_DIR: join(hub.dir, "other") };
  await expect(nodeEmbedded({ dir: hub.dir, env: { ...hub.env, ...env } })).rejects.toThrow(
    /^HUB_AUDIT_FILE: /,
  );
});

function auditFile(hub: Hub): string {
  return join(hub.stateDir, "audit.log");
}

function entries(hub: Hub): Entry[] {
  const lines = readFileSync(auditFile(hub), "utf8").trimEnd().split("\n");
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as Entry];
    } catch {
      return [];
    }
  });
}

function open(path: string, now: () => number = Date.now) {
  return openAuditLog(path, { now, knownHead: undefined, exclusively: (work) => work() });
}

async function tempLog(now?: () => number) {
  const dir = await mkdtemp(join(tmpdir(), "audit-"));
  const path = join(dir, "audit.log");
  const audit = open(path, now);
  onTestFinished(async () => {
    audit.close();
    await rm(dir, { recursive: true });
  });
  return { path, audit };
}

const cli = (hub: Hub, ...args: string[]) => command(args, hub.env);

function command(args: string[], env: Record<string, string>) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const child = execFile(
      process.execPath,
      [CLI, ...args],
      { env: { ...COMPILE_CACHE, ...env } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

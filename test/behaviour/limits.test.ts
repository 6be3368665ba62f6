import { existsSync, lstatSync } from "node:fs";
import { appendFile, copyFile, readdir, readFile, rename, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { describe, expect, test } from "vitest";

import { logEndMark } from "../../host-agent/logs/log-limit.ts";
import { openRunStore } from "../../host-agent/store/run-store.ts";
import { processesOf } from "../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { type Hub, startHub, until } from "../support/hub.ts";
import { tempDir } from "../support/temp-dir.ts";

const LIMIT = 4_096;
const MARK = logEndMark(LIMIT).toString();
const SIZE = LIMIT + MARK.length;
const DAY_MS = 86_400_000;

/** Writes numbered lines of 64 bytes forever, faster than the agent looks. */
const FLOOD = `i=0; while :; do printf '%063d\\n' $((i += 1)); sleep 0.0005; done`;
/** What FLOOD has written when the log is full. */
const FIRST_LINES = Array.from({ length: LIMIT / 64 }, (_, i) => `${String(i + 1).padStart(63, "0")}\n`).join(
  "",
);

const limited = (action: string) => ({
  env: { HUB_MAX_LOG_BYTES: String(LIMIT), HUB_LOG_LIMIT_ACTION: action },
});

describe("a log over its limit", () => {
  test("ends with one clear line while the run goes on, and the file stays small", async () => {
    await using hub = await startHub(limited("truncate"));
    const go = join(hub.dir, "go");
    const run = await hub.runScript(
      `( until [ -e ${go} ]; do printf '%063d\\n' $((i += 1)); done )\necho last >${hub.dir}/last; exit 3`,
    );
    await until(async () => (await sizeOf(hub, run)) === SIZE || undefined);
    // What others append is taken away; the run itself cannot.
    for (let cuts = 0; cuts < 2; cuts++) await isCutOnDisk(run);
    expect(await hub.log(run)).toBe(FIRST_LINES + MARK);
    expect(await hub.run(run)).toMatchObject({ status: "running" });

    await writeFile(go, "");
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 3 });
    expect(existsSync(`${hub.dir}/last`)).toBe(true);
    expect(await hub.log(run)).toBe(FIRST_LINES + MARK);
    expect(await readFile(run.log_path, "utf8")).toBe(FIRST_LINES + MARK);
  });

  test("never gets shorter for a reader, and every offset stays valid", async () => {
    await using hub = await startHub(limited("truncate"));
    const run = await hub.runScript(FLOOD);
    let last = 0;
    let atEnd = 0;
    let text = "";
    for (let after = 0; atEnd < 30;) {
      const { status, json } = await hub.get(
        `/api/v1/scripts/runs/${run.run_id}/logs?after=${after}&max_bytes=700`,
      );
      expect(status).toBe(200);
      expect(json.size).toBeGreaterThanOrEqual(last);
      last = json.size;
      text += json.chunk;
      after = json.offset;
      if (after === SIZE) atEnd++;
    }
    expect(text).toBe(FIRST_LINES + MARK);
    for (const after of [LIMIT - 1, LIMIT, LIMIT + 1, SIZE - 1, SIZE]) {
      const { json } = await hub.get(`/api/v1/scripts/runs/${run.run_id}/logs?after=${after}&max_bytes=4096`);
      expect(json).toMatchObject({ chunk: text.slice(after), offset: SIZE, size: SIZE, more: false });
    }
    const beyond = await hub.get(`/api/v1/scripts/runs/${run.run_id}/logs?after=${SIZE + 1}`);
    expect(beyond).toMatchObject({ status: 416, json: { size: SIZE } });
  });

  test("stops its run, and no other, with HUB_LOG_LIMIT_ACTION=stop", async () => {
    await using hub = await startHub(limited("stop"));
    const polite = await hub.runScript(`trap 'echo bye >&2; exit 0' TERM; ${FLOOD}`);
    const other = await hub.runScript("sleep 60");

    const reason = `Its log reached the limit of ${LIMIT} bytes, and it was sent SIGTERM.`;
    expect(await hub.ended(polite)).toMatchObject({ status: "failed", status_reason: reason });
    expect(await hub.log(polite)).toBe(FIRST_LINES + MARK);
    expect(processesOf(polite.run_id)).toEqual([]);
    expect(await hub.run(other)).toMatchObject({ status: "running" });
  });

  test("reports in status_reason that the end of the log was not kept", async () => {
    await using hub = await startHub(limited("truncate"));
    const run = await hub.runScript(`head -c 9000 /dev/zero | tr '\\0' x; echo; echo 'Error: hidden'`);
    const { status, status_reason } = await hub.ended(run);
    expect({ status, status_reason }).toEqual({
      status: "completed",
      status_reason:
        "The command exited with code 0. Its log is over the limit: the end, where an error might stand, was not kept.",
    });
    expect((await stat(run.log_path)).size).toBe(SIZE);
  });

  test("keeps the limit of its launch when the setting changes", async () => {
    await using hub = await startHub(limited("truncate"));
    const run = await hub.runScript(FLOOD);
    await until(async () => (await sizeOf(hub, run)) === SIZE || undefined);
    await hub.restart(() => void Object.assign(hub.env, { HUB_MAX_LOG_BYTES: "1024" }));
    expect(await hub.log(run)).toBe(FIRST_LINES + MARK);
  });

  test("is not read from another file that replaced it", async () => {
    await using hub = await startHub(limited("truncate"));
    const run = await hub.runScript("sleep 60");
    const other = join(hub.dir, "other");
    await writeFile(other, "x".repeat(9_000));
    await rename(run.log_path, `${run.log_path}.old`);
    await copyFile(other, run.log_path);
    const flood = await hub.runScript(FLOOD);
    await isCutOnDisk(flood);
    await isCutOnDisk(flood);
    expect((await stat(run.log_path)).size).toBe(9_000);
  });
});

test("a run that exceeds the time limit of its recipe is stopped after a restart of the agent", async () => {
  await using hub = await startHub({
    recipes: [{ ...SLEEP, timeout_seconds: 2 }],
  });
  const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "sleep" });
  await hub.restart(
    async () => void (await until(() => Date.now() / 1000 > run.started_at + 3 || undefined)),
  );
  expect(await hub.ended(run)).toMatchObject({
    status: "failed",
    status_reason: "It ran longer than its recipe's 2 seconds and was sent SIGTERM.",
  });
});

test("a run that survives a kill is ended by its time limit, and counts as running until then", async () => {
  await using hub = await startHub({
    env: { HUB_MAX_RUNNING: "1" },
    recipes: [{ ...SLEEP, command: ["/bin/sh", "-c", "trap '' TERM; sleep 60"], timeout_seconds: 3_600 }],
  });
  const launch = () => hub.post("/api/v1/pipelines/runs", { recipe_id: "sleep" });
  const { json: run } = await launch();
  // Longer than its time, which is the stricter of the two.
  expect(await hub.kill(run, { grace_seconds: 3_600 })).toMatchObject({
    status: 200,
    json: { status: "killed", ended_at: null },
  });
  expect(await launch()).toMatchObject({ status: 429, json: { code: "too_many_runs" } });

  age(hub, run, 1);
  using db = open(hub);
  const deadline = db.prepare("SELECT stop_deadline AS at FROM runs WHERE run_id = ?");
  const { at } = await until(() => {
    const row = deadline.get(run.run_id) as { at: number };
    return row.at > Date.now() + 60_000 ? undefined : row;
  });
  expect(at).toBeGreaterThan(Date.now());
  db.prepare("UPDATE runs SET stop_deadline = 1, stop_deadline_uptime = 1 WHERE run_id = ?").run(run.run_id);
  const reason = /^\/kill by acme-prod sent SIGTERM, then/;
  const ended = await hub.ended(run);
  expect(ended).toMatchObject({ status: "killed", signal: "SIGKILL", exit_code: 137 });
  expect(ended.status_reason).toMatch(reason);
  expect((await launch()).status).toBe(201);
});

describe("retention", () => {
  test("a run folder that cannot be removed does not stop the pruning of other runs", async () => {
    await using hub = await startHub({ env: { HUB_KEEP_RUNS_DAYS: "2" } });
    const [odd, plain] = [await hub.runScript("echo odd"), await hub.runScript("echo plain")];
    await hub.ended(odd);
    await hub.ended(plain);
    await hub.restart(async () => {
      await rename(folder(hub, odd), `${folder(hub, odd)}.moved`);
      await writeFile(folder(hub, odd), "a file");
      age(hub, odd, 4);
      age(hub, plain, 3);
    });
    await until(async () => (await hub.get(url(plain))).status === 404 || undefined);
    expect((await hub.get(url(odd))).status).toBe(404);
    expect(await readFile(folder(hub, odd), "utf8")).toBe("a file");
  });

  test("prunes ended runs with folder and log after HUB_KEEP_RUNS_DAYS, and never a live run", async () => {
    await using hub = await startHub({ env: { HUB_KEEP_RUNS_DAYS: "2" } });
    const [old, young, alive] = [
      await hub.runScript("echo old"),
      await hub.runScript("echo young"),
      await hub.runScript("sleep 60"),
    ];
    await hub.ended(old);
    await hub.ended(young);
    await hub.restart(() => {
      age(hub, old, 2.01);
      age(hub, young, 1.99);
      age(hub, alive, 100);
    });
    await until(async () => (await hub.get(url(old))).status === 404 || undefined);

    expect(existsSync(old.log_path)).toBe(false);
    const indexed = await readdir(join(hub.stateDir, "logs", "by-run"));
    expect(indexed.toSorted()).toEqual([alive, young].map(({ run_id }) => `${run_id}.log`).toSorted());
    expect(existsSync(folder(hub, old))).toBe(false);
    expect((await hub.get(`${url(old)}/logs`)).json).toMatchObject({ code: "run_not_found" });
    expect(await hub.log(young)).toBe("young\n");
    expect(await hub.run(alive)).toMatchObject({ status: "running" });
    const { json } = await hub.get("/api/v1/scripts/runs");
    expect(json.runs.map((run: RunRecord) => run.run_id)).toEqual([alive.run_id, young.run_id]);
  });

  test("removes the log of a pruned run from the log_dir of its recipe, as docs/recipes.md says, and no other file there", async () => {
    const logs = tempDir();
    const recipe = {
      recipe_id: "eval",
      title: "Eval",
      description: "",
      command: ["echo", "x"],
      log_dir: logs,
    };
    await using hub = await startHub({ env: { HUB_KEEP_RUNS_DAYS: "2" }, recipes: [recipe] });
    const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "eval" });
    await hub.ended(run);
    await writeFile(join(logs, "report.txt"), "kept");
    await hub.restart(() => age(hub, run, 3));
    await until(
      async () => (await hub.get(`/api/v1/pipelines/runs/${run.run_id}`)).status === 404 || undefined,
    );

    expect(await readdir(logs)).toEqual(["report.txt"]);
  });

  test("keeps the runs of a recipe for its keep_days, and forgets the oldest ended runs over HUB_MAX_LOGS_BYTES", async () => {
    const recipe = { title: "R", description: "", command: ["head", "-c", "700000", "/dev/zero"] };
    await using hub = await startHub({
      env: { HUB_KEEP_RUNS_DAYS: "2", HUB_MAX_LOGS_BYTES: "1048576" },
      recipes: [
        { ...recipe, recipe_id: "short", command: ["true"], keep_days: 1 },
        { ...recipe, recipe_id: "long", keep_days: 0 },
      ],
    });
    const launch = async (recipe_id: string): Promise<RunRecord> => {
      const { json } = await hub.post("/api/v1/pipelines/runs", { recipe_id });
      expect(json).toMatchObject({ source: "pipeline" });
      return hub.ended(json);
    };
    const [short, older, newer] = [await launch("short"), await launch("long"), await launch("long")];
    await hub.restart(() => {
      age(hub, short, 1.5);
      age(hub, older, 4);
      age(hub, newer, 3);
    });
    for (const gone of [short, older]) {
      await until(async () => (await hub.get(url(gone))).status === 404 || undefined, 60_000);
      expect(existsSync(gone.log_path)).toBe(false);
    }
    expect(await hub.run(newer)).toMatchObject({ status: "completed" });
    const { json } = await hub.get("/api/v1/pipelines/recipes");
    expect(JSON.stringify(json), "the API does not show it").not.toMatch("keep_days");
  });

  test("does not remove a log that was not created for the run", async () => {
    await using hub = await startHub({ env: { HUB_KEEP_RUNS_DAYS: "1" } });
    const replaced = await hub.runScript("echo mine");
    const linked = await hub.runScript("echo mine");
    await hub.ended(replaced);
    await hub.ended(linked);
    const precious = join(hub.dir, "precious");
    await writeFile(precious, "precious");
    await hub.restart(async () => {
      await rename(replaced.log_path, `${replaced.log_path}.1`);
      await copyFile(precious, replaced.log_path);
      await rename(linked.log_path, `${linked.log_path}.1`);
      await symlink(precious, linked.log_path);
      age(hub, replaced, 2);
      age(hub, linked, 2);
    });
    await until(async () => (await hub.get(url(linked))).status === 404 || undefined);
    expect((await hub.get(url(replaced))).status).toBe(404);
    expect(await readFile(replaced.log_path, "utf8")).toBe("precious");
    expect(lstatSync(linked.log_path).isSymbolicLink()).toBe(true);
    expect(await readFile(precious, "utf8")).toBe("precious");
  });

  test("keeps all runs forever with HUB_KEEP_RUNS_DAYS=0", async () => {
    await using hub = await startHub({ env: { HUB_KEEP_RUNS_DAYS: "0" } });
    const run = await hub.runScript("echo kept");
    await hub.ended(run);
    // The first look at the runs is over when the start is.
    await hub.restart(() => age(hub, run, 9_999));
    expect(await hub.log(run)).toBe("kept\n");
  });
});

test("a database of version 1 is migrated with all its runs", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("echo hi; exit 4");
  const ended = await hub.ended(run);
  await hub.restart(() => {
    using db = open(hub);
    db.exec(`
      DROP INDEX runs_by_key; DROP INDEX runs_by_target; DROP INDEX runs_by_label_and_target;
      ALTER TABLE runs DROP COLUMN target; ALTER TABLE runs DROP COLUMN script_path;
      DROP INDEX runs_by_time_limit; DROP INDEX runs_unsettled;
      ALTER TABLE runs DROP COLUMN cgroup; ALTER TABLE runs DROP COLUMN kill_left_behind;
      ALTER TABLE runs DROP COLUMN left_behind; ALTER TABLE runs DROP COLUMN cpu_usec;
      ALTER TABLE runs DROP COLUMN memory_peak;
      DROP TRIGGER log_measured; DROP TRIGGER log_forgotten; DROP TABLE ended_logs; DROP INDEX runs_with_log;
      DROP INDEX runs_unmeasured; DROP INDEX runs_kept_by_recipe; DROP INDEX runs_kept_by_setting;
      ALTER TABLE runs DROP COLUMN log_bytes; ALTER TABLE runs DROP COLUMN keep_days;
      ALTER TABLE runs DROP COLUMN started_uptime; ALTER TABLE runs DROP COLUMN stop_deadline_uptime;
      DROP INDEX runs_alive_by_log; DROP INDEX runs_alive_by_recipe; ALTER TABLE runs DROP COLUMN recipe_id;
      DROP TABLE callbacks; DROP INDEX runs_by_label; DROP INDEX runs_by_label_and_status;
      ALTER TABLE runs DROP COLUMN label;
      DROP TABLE audit_head; DROP INDEX runs_ended; ALTER TABLE runs DROP COLUMN log_limit;
      ALTER TABLE runs DROP COLUMN log_file; PRAGMA user_version = 1;`);
  });
  expect(await hub.run(run)).toEqual(ended);
  expect(await hub.log(run)).toBe("hi\n");
  expect(await hub.ended(await hub.runScript("exit 5"))).toMatchObject({ exit_code: 5 });
  using db = open(hub);
  const columns = db.prepare("SELECT name FROM pragma_table_xinfo('runs') ORDER BY name").all();
  const fresh = openRunStore(join(hub.dir, "fresh.db"));
  fresh.close();
  using freshDb = new DatabaseSync(join(hub.dir, "fresh.db"));
  expect(columns).toEqual(freshDb.prepare("SELECT name FROM pragma_table_xinfo('runs') ORDER BY name").all());
});

test("a database of a later version refuses the start", async () => {
  await using hub = await startHub();
  const path = join(hub.dir, "later.db");
  new DatabaseSync(path).exec("PRAGMA user_version = 99");
  expect(() => openRunStore(path)).toThrow(/schema version 99/);
});

const SLEEP = { recipe_id: "sleep", title: "Sleep", description: "Sleeps", command: ["sleep", "60"] };

function url({ source, run_id }: RunRecord): string {
  return `/api/v1/${source}s/runs/${run_id}`;
}

async function sizeOf(hub: Hub, run: RunRecord): Promise<number> {
  return (await hub.get(`${url(run)}/logs`)).json.size;
}

/** Waits until the file is longer than what is shown, and then until it has been cut. */
async function isCutOnDisk({ log_path }: RunRecord): Promise<void> {
  await until(async () => (await stat(log_path)).size === SIZE || undefined);
  await appendFile(log_path, "x".repeat(100));
  await until(async () => (await stat(log_path)).size === SIZE || undefined);
}

function folder(hub: Hub, run: RunRecord): string {
  return join(hub.stateDir, "runs", run.run_id);
}

function open(hub: Hub): DatabaseSync {
  return new DatabaseSync(join(hub.stateDir, "runs.db"));
}

/**
 * Makes a run this many days old; a live run began then. One that has ended was launched in an earlier boot of the host: in a boot
 * that began a moment ago nothing can be days old.
 */
function age(hub: Hub, run: RunRecord, days: number): void {
  using db = open(hub);
  const then = Date.now() - days * DAY_MS;
  db.prepare("UPDATE runs SET started_at = ?, started_uptime = NULL WHERE run_id = ?").run(then, run.run_id);
  db.prepare(
    `UPDATE runs SET ended_at = ?, boot_id = 'earlier', launcher = json_set(launcher, '$.bootId', 'earlier')
      WHERE run_id = ? AND ended_at IS NOT NULL`,
  ).run(then, run.run_id);
}

// npm run bench: speed and memory of the product compared with a baseline that is measured in the same run.
//
// With --keep its ratios go to previous.json, which the next run prints next to its own: do so before a landing.
//
// Leave a minute between two runs: ext4 steps over the inodes that were just deleted, one by one, and a run deletes
// some thousands of them at its end, so that each folder of the next one costs a millisecond more.
import { fork } from "node:child_process";
import { once } from "node:events";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";

import { doorCost } from "./door.ts";
import { type Figure, median, table, time, type Times } from "./figures.ts";
import { endRun } from "./run-processes.ts";
import { cpuMs, freePort, OTHER_KEY, residentMb, startServer } from "./server.ts";
import { measureLiveRuns } from "./live-runs.ts";
import { keepRatios, previousRatios } from "./previous.ts";
import { requestsPerSecond } from "./wrk.ts";

const BARE_SPAWNER = fileURLToPath(new URL("bare-spawner.ts", import.meta.url));
const BARE_SERVER = fileURLToPath(new URL("bare-server.ts", import.meta.url));
const SECONDS = 3;
const ROUNDS = 3;

const LOG_LINES = [
  ["ASCII", '2026-11-27T20:45:02Z INFO step 17: 1024 of 4096 records, "ok"\n'],
  ["Latin and emoji", "2026-11-27T20:45:02Z INFO étape 17 terminée : 1024 enregistrements ✓\n"],
  ["Chinese", "2026-11-27T20:45:02Z 信息 第十七步：已处理一千零二十四条记录，共四千零九十六条\n"],
] as const;

type Server = Awaited<ReturnType<typeof startServer>>;

const figures: Figure[] = [];
await using server = await startServer();

await measureGetRun();
await measureDoor();
await measureLaunch();
await measureLogPages();
await measureLists();
await measureMemory();
await measureHeld();
// Now, because the rest takes as long again.
console.log(table(figures, previousRatios()));
figures.push(...(await measureLiveRuns()));
console.log(table(figures, previousRatios()));
if (process.argv.includes("--keep")) keepRatios(figures);

async function measureGetRun(): Promise<void> {
  const { run_id } = await server.launch();
  await ended(run_id);
  const record = await server.get(`/api/v1/scripts/runs/${run_id}`);
  const port = await freePort();
  const bare = fork(BARE_SERVER, [String(port), JSON.stringify(record)]);
  await once(bare, "message");
  const rates = { ours: [] as number[], bare: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    const load = { connections: 16, seconds: SECONDS };
    rates.bare.push(await requestsPerSecond({ ...load, url: `http://127.0.0.1:${port}/` }));
    rates.ours.push(
      await requestsPerSecond({
        ...load,
        url: `${server.url}/api/v1/scripts/runs/${run_id}`,
        headers: { authorization: server.headers.authorization },
      }),
    );
  }
  bare.kill();
  compare("GET one run, 16 connections", "req/s", median(rates.ours), median(rates.bare), { atLeast: 0.25 });
}

async function measureDoor(): Promise<void> {
  const { door, ed25519 } = await doorCost();
  compare("a signed GET at an agent's door, CPU, against Ed25519 alone", "µs", door, ed25519, { atMost: 2 });
}

async function measureLaunch(): Promise<void> {
  const spawner = fork(BARE_SPAWNER, [join(server.dir, "baseline.log")]);
  const timeBare = async (count: number, concurrency: number): Promise<Times> => {
    spawner.send({ count, concurrency });
    const [times] = await once(spawner, "message");
    return times;
  };
  const timeLaunches = (count: number, concurrency: number) =>
    time(count, concurrency, () => server.launch());
  // Both warm, as they are on a server that has been up for a while.
  await timeBare(1_000, 16);
  await timeLaunches(1_000, 16);
  const one = { ours: [] as number[], bare: [] as number[] };
  const many = { ours: [] as number[], bare: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    one.bare.push((await timeBare(200, 1)).p50);
    one.ours.push((await timeLaunches(200, 1)).p50);
    many.bare.push((await timeBare(800, 16)).perSecond);
    many.ours.push((await timeLaunches(800, 16)).perSecond);
  }
  compare("launch /bin/true, 1 at a time, p50", "ms", median(one.ours), median(one.bare), { atMost: 3 });
  compare("launch /bin/true, 16 at a time", "runs/s", median(many.ours), median(many.bare), {
    atLeast: 0.35,
  });
  // What the first callers of a fresh server see, whose code is not compiled yet.
  await server.restart(async () => {});
  const first = await timeLaunches(100, 1);
  const bare = await timeBare(100, 1);
  spawner.disconnect();
  compare("launch /bin/true, the first 100 after a start, p50", "ms", first.p50, bare.p50, null);
}

async function measureLogPages(): Promise<void> {
  const { run_id } = await server.launch();
  const record = await ended(run_id);
  await truncate(String(record["log_path"]), 2_000_000_000);
  const page = (after: number) =>
    requestsPerSecond({
      url: `${server.url}/api/v1/scripts/runs/${run_id}/logs?after=${after}&max_bytes=65536`,
      connections: 4,
      seconds: SECONDS,
      headers: { authorization: server.headers.authorization, accept: "text/plain" },
    });
  const rates = { start: [] as number[], far: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    rates.start.push(await page(0));
    rates.far.push(await page(1_900_000_000));
  }
  const [start, far] = [median(rates.start), median(rates.far)];
  compare("64 KiB log page at 0, against 3,000/s", "pages/s", start, 3_000, { atLeast: 1 });
  compare("64 KiB log page at 1.9 GB, against 0", "pages/s", far, start, { atLeast: 0.8 });
  for (const [name, line] of LOG_LINES) await measureJsonPages(name, line);
}

/** A log page as JSON against the same bytes raw. */
async function measureJsonPages(name: string, line: string): Promise<void> {
  const { run_id } = await server.launch();
  const record = await ended(run_id);
  await writeFile(String(record["log_path"]), line.repeat(4_000));
  const page = (accept: string) =>
    requestsPerSecond({
      url: `${server.url}/api/v1/scripts/runs/${run_id}/logs?after=0&max_bytes=65536`,
      connections: 4,
      seconds: SECONDS,
      headers: { authorization: server.headers.authorization, accept },
    });
  const rates = { json: [] as number[], raw: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    rates.raw.push(await page("text/plain"));
    rates.json.push(await page("application/json"));
  }
  compare(`64 KiB log page as JSON, ${name}, against raw`, "pages/s", median(rates.json), median(rates.raw), {
    atLeast: 0.6,
  });
}

async function measureLists(): Promise<void> {
  const filters = [
    "",
    ...["running", "completed", "failed", "killed", "unknown"].map((one) => `&status=${one}`),
  ];
  await using large = await startServer();
  // A hundred of each status, so that every filter finds its 50.
  await server.restart(async () => fillRuns(server, 400));
  await large.restart(async () => fillRuns(large, 1_000_000));
  const starts = { few: [] as number[], many: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    starts.few.push(await server.restart(async () => {}));
    starts.many.push(await large.restart(async () => {}));
  }
  const [many, few] = [median(starts.many), median(starts.few)];
  compare("start with 1,000,000 stored runs, against 400", "ms", many, few, { atMost: 1.25 });
  for (const filter of filters) {
    const rates = { few: [] as number[], many: [] as number[] };
    for (let round = 0; round < ROUNDS; round++) {
      rates.few.push(await listsOf(server, filter));
      rates.many.push(await listsOf(large, filter));
    }
    const what = `list 50 of 1,000,000 runs, against of 400${filter}`;
    compare(what, "lists/s", median(rates.many), median(rates.few), { atLeast: 0.5 });
  }
}

function listsOf({ url, headers }: Server, filter: string): Promise<number> {
  return requestsPerSecond({
    url: `${url}/api/v1/pipelines/runs?limit=50${filter}`,
    connections: 4,
    seconds: 1,
    headers: { authorization: headers.authorization },
  });
}

/** Replaces all runs by this number of ended pipeline runs, of every status. */
function fillRuns({ stateDir }: Server, count: number): void {
  const db = new DatabaseSync(join(stateDir, "runs.db"));
  db.exec("DELETE FROM runs WHERE source = 'pipeline'");
  db.exec(`
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
    INSERT INTO runs (run_id, source, spec, cmd, log_path, key_name, status, status_reason, exit_code,
      started_at, ended_at, pid, fingerprint, launcher)
    SELECT printf('run_%012x', i), 'pipeline', '{"recipe_id":"x","args":""}', 'x', '/nowhere/x.log', 'bench',
      CASE i % 4 WHEN 0 THEN 'completed' WHEN 1 THEN 'failed' WHEN 2 THEN 'killed' ELSE 'unknown' END,
      'The command exited with code 0.', 0, 1700000000000 + i, 1700000000000 + i, 1, 'f', '{}' FROM n`);
  db.close();
}

async function measureMemory(): Promise<void> {
  const LIVE = 500;
  await server.restart(async () => fillRuns(server, 100));
  await server.get("/api/v1/scripts/runs");
  const idle = residentMb(server.pid);
  compare("server and spawner idle, resident, against 120 MB", "MB", idle, 120, { atMost: 1 });
  const pids: string[] = [];
  for (let i = 0; i < LIVE; i++) pids.push((await server.launch(join(server.dir, "sleep.sh"))).pid);
  await server.get("/api/v1/scripts/runs?limit=500");
  const live = residentMb(server.pid);
  for (const pid of pids) endRun(Number(pid));
  compare(`with ${LIVE} live runs, resident above idle, against 20 MB`, "MB", live - idle, 20, {
    atMost: 1,
  });
}

/** How much of a core it takes to hold requests for the log of a run that writes nothing. */
async function measureHeld(): Promise<void> {
  const HELD = 300;
  const { run_id, pid } = await server.launch(join(server.dir, "sleep.sh"));
  const follow = async (authorization: string): Promise<void> => {
    const url = `${server.url}/api/v1/scripts/runs/${run_id}/logs?wait=30`;
    await (await fetch(url, { headers: { authorization } })).text();
  };
  const keys = [server.headers.authorization, `Bearer ${OTHER_KEY}`];
  const answers = Array.from({ length: HELD }, (_, i) => follow(keys[i % 2]!));
  await sleep(8_000);
  const start = cpuMs(server.pid);
  await sleep(15_000);
  const share = (cpuMs(server.pid) - start) / 150;
  endRun(Number(pid));
  await Promise.all(answers);
  compare(`${HELD} requests that wait for one quiet run, of a core, against 2 %`, "%", share, 2, {
    atMost: 1,
  });
}

async function ended(runId: string): Promise<Record<string, unknown>> {
  for (;;) {
    const record = await server.get(`/api/v1/scripts/runs/${runId}`);
    if (record["ended_at"] !== null) return record;
  }
}

function compare(
  what: string,
  unit: string,
  ours: number,
  baseline: number,
  promise: Figure["promise"],
): void {
  const show = (value: number) => `${value >= 100 ? Math.round(value) : value.toFixed(2)} ${unit}`;
  figures.push({ what, measured: show(ours), baseline: show(baseline), ratio: ours / baseline, promise });
  console.log(`measured: ${what}`);
}

import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { launch, runClient, runsPath, SOURCES } from "./client.ts";
import { type Facts, type JobFacts, newJobFacts } from "./facts.ts";
import { exitCodes } from "./hide.ts";
import { burstJob, isJobsChild, type LedgerEntry, randomJob, readLedger } from "./job.ts";
import { type Case, judgeLaunch, judgeLog, judgeRecord, type LogFound } from "./judge.ts";
import { losePower } from "./power.ts";
import type { Random } from "./random.ts";
import { runProcesses } from "./run-processes.ts";
import { sabotage } from "./saboteur.ts";
import type { World } from "./world.ts";

const CLIENTS = 3;
/** In one of this number of rounds many jobs are launched at once. */
const BURST_EVERY = 24;
const BURST = [40, 50] as const;
const LONG_PAUSE_MS = 800;
/** Runs of other rounds that are looked at again. */
const MARGIN = 40;
const KEY_LIFE_MS = 3_600_000;
const STUCK_AFTER_MS = 180_000;
/** Enough for the rest of the pause of a dead job, on a host under heavy load. */
const LEFT_BEHIND_MS = 10_000;

export interface Round {
  world: World;
  facts: Facts;
  random: Random;
  /** Unlike any other round's. */
  name: string;
  /** Of the rounds of all worlds of this topology, from 0. */
  number: number;
}

/** One round: clients and a saboteur at work at the same time; then all is judged. Returns its jobs. */
export async function playRound(round: Round, before: JobFacts[]): Promise<JobFacts[]> {
  const { world, facts, random, number } = round;
  const from = Date.now();
  const reused = random.chance(0.1) && !world.power ? reuseKeys(world, facts, before) : [];
  const isBurst = number % BURST_EVERY === BURST_EVERY / 2;
  if (isBurst) facts.count("bursts of launches at once");
  const jobs = randomJobs(round, isBurst);
  const clients = isBurst ? jobs.length : CLIENTS;
  const shares = Array.from({ length: clients }, (_, client) =>
    jobs.filter((_job, index) => index % clients === client),
  );
  await Promise.all([
    world.power
      ? losePower(world, facts, random.fork())
      : sabotage(world, facts, random.fork(), { round: number, isBurst }),
    ...shares.map((share) => runClient(world, facts, share, random.fork())),
    ...reused.map((job) => launch(world, facts, job)),
  ]);
  world.line?.heal();
  const limit = jobs.length + reused.length + MARGIN;
  await allEnded(world, facts, limit);
  // A request that was in flight when its client stopped waiting has arrived by now.
  await sleep(20);
  const records = await allEnded(world, facts, limit);
  const span = { from, to: Date.now(), offsets: world.takeClockOffsets() };
  const ledger = readLedger(world.readLedger());
  const exits = exitCodes(
    world.stateDir,
    records.map(({ run_id }) => run_id),
  );
  for (const job of [...jobs, ...reused]) {
    const own = records.filter(
      (record) => argsOf(record).split(" ")[1] === job.job.id && !job.earlier.has(record.run_id),
    );
    for (const { run_id } of own) job.found.add(run_id);
    const entries = runsOf(job, ledger)
      .filter((runId) => !job.earlier.has(runId))
      .map((runId) => ledger.get(runId)!);
    await judge(world, { facts: job, records: own, entries, exits, span }, ledger, facts);
  }
  return jobs;
}

function randomJobs({ world, random, name }: Round, isBurst: boolean): JobFacts[] {
  const length = isBurst ? random.between(...BURST) : random.between(4, 9);
  return Array.from({ length }, (_, index) => {
    const id = `${name}j${index}`;
    const job = isBurst ? burstJob(id, random) : randomJob(id, random, world.hasTerminals);
    // The power goes while they run.
    if (world.power) job.pauseMs = random.between(0, LONG_PAUSE_MS);
    return newJobFacts(job, random.chance(0.75) ? `key-${job.id}` : undefined);
  });
}

/** After its hour a key is free: the same request is a new launch. */
function reuseKeys(world: World, facts: Facts, before: JobFacts[]): JobFacts[] {
  const reusable = before.filter(({ key, acknowledged }) => key !== undefined && acknowledged.size === 1);
  if (reusable.length === 0) return [];
  facts.count("clock moved past a key's hour");
  world.moveClock({ passed: 2 * KEY_LIFE_MS });
  return reusable.slice(0, 3).map(({ job, key, asked, earlier, found }) => ({
    ...newJobFacts(job, key),
    keySince: asked!.from,
    earlier: new Set([...earlier, ...found]),
  }));
}

function runsOf({ job }: JobFacts, ledger: ReadonlyMap<string, LedgerEntry>): string[] {
  return [...ledger.values()].filter(({ jobId }) => jobId === job.id).map(({ runId }) => runId);
}

/**
 * The newest runs, once all are over and nothing of them is left. What jobs
 * leave behind is ended here, except for those that were killed: a kill ends it all.
 */
async function allEnded(world: World, facts: Facts, limit: number): Promise<RunRecord[]> {
  const giveUpAt = performance.now() + STUCK_AFTER_MS;
  let leaveAt = Infinity;
  for (;;) {
    const records = await newestRuns(world, facts, limit);
    // Looked at after the records: of a run that was killed and has ended nothing is alive.
    const left = runProcesses(world.dir).flatMap((found) => {
      const record = records.find(({ run_id }) => run_id === found.runId);
      return record ? [{ ...found, record }] : [];
    });
    for (const { pid, command, record } of left) {
      if (record.status === "killed" && record.ended_at !== null)
        facts.violate(`${record.run_id} was killed and has left process ${pid}: ${command}`);
      if (record.status !== "killed" && isJobsChild(command)) end(pid);
    }
    const areOver = records.every((record) => record.ended_at !== null);
    if (areOver) leaveAt = Math.min(leaveAt, performance.now() + LEFT_BEHIND_MS);
    if (areOver && left.length === 0) return records;
    if (performance.now() > Math.min(leaveAt, giveUpAt)) {
      for (const { pid, runId, command } of left)
        facts.violate(`${runId} has left process ${pid}: ${command}`);
      return records;
    }
    await sleep(15);
  }
}

async function newestRuns(world: World, facts: Facts, limit: number): Promise<RunRecord[]> {
  const lists = await Promise.all(SOURCES.map((source) => world.read(`${runsPath(source)}?limit=${limit}`)));
  const records = lists.flatMap(({ json }) => json.runs as RunRecord[]);
  for (const record of records) facts.see(record);
  return records;
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended in between.
  }
}

async function judge(
  world: World,
  found: Case,
  ledger: ReadonlyMap<string, LedgerEntry>,
  facts: Facts,
): Promise<void> {
  judgeLaunch(found, facts);
  for (const record of found.records) {
    const entry = ledger.get(record.run_id);
    judgeRecord(record, entry, found, facts);
    facts.count("runs judged");
    if (entry) judgeLog(record, entry, found, await readLog(world, record), facts);
  }
}

async function readLog(world: World, { source, run_id, log_path }: RunRecord): Promise<LogFound> {
  const pages: Uint8Array[] = [];
  for (let after = 0; ;) {
    const path = `${runsPath(source)}/${run_id}/logs?after=${after}&max_bytes=500`;
    const { status, headers, bytes } = await world.read(path, { accept: "text/plain" });
    // The name of a new file may not be on the disk yet when the power goes.
    if (status === 410 && world.power && !existsSync(log_path)) return { log: "", onDisk: "" };
    if (status !== 200) throw new Error(`log of ${run_id}: ${status} ${new TextDecoder().decode(bytes)}`);
    pages.push(bytes);
    after = Number(headers.get("hub-log-offset"));
    if (headers.get("hub-log-more") === "true") continue;
    return { log: Buffer.concat(pages).toString("utf8"), onDisk: readFileSync(log_path, "utf8") };
  }
}

function argsOf(record: RunRecord): string {
  return (record.spec as { args?: string }).args ?? "";
}

import { setTimeout as sleep } from "node:timers/promises";

import type { RunRecord } from "../../host-agent/protocol/schemas.ts";
import { launch, runClient, RUNS } from "./client.ts";
import type { Facts, JobFacts } from "./facts.ts";
import { type LedgerEntry, randomJob, readLedger } from "./job.ts";
import { type Case, judgeLaunch, judgeLog, judgeRecord } from "./judge.ts";
import type { Random } from "./random.ts";
import { runProcesses } from "./run-processes.ts";
import { sabotage } from "./saboteur.ts";
import type { World } from "./world.ts";

const CLIENTS = 3;
const KEY_LIFE_MS = 3_600_000;
const STUCK_AFTER_MS = 40_000;

/** One round: clients and a saboteur at work at the same time; then all is judged. Returns its jobs. */
export async function playRound(
  world: World,
  facts: Facts,
  name: string,
  random: Random,
  before: JobFacts[],
): Promise<JobFacts[]> {
  const reused = random.chance(0.1) ? reuseKeys(world, facts, before) : [];
  const jobs = Array.from({ length: random.between(4, 9) }, (_, index): JobFacts => {
    const job = randomJob(`${name}j${index}`, random);
    const key = random.chance(0.75) ? `key-${job.id}` : undefined;
    return { job, key, acknowledged: new Set(), earlier: new Set() };
  });
  const shares = Array.from({ length: CLIENTS }, (_, client) =>
    jobs.filter((_job, index) => index % CLIENTS === client),
  );
  const [{ diskFull }] = await Promise.all([
    sabotage(world, facts, random.fork()),
    ...shares.map((share) => runClient(world, facts, share, random.fork())),
    ...reused.map((job) => launch(world, facts, job)),
  ]);
  const all = [...jobs, ...reused];
  await judge(world, facts, all, diskFull);
  return jobs;
}

/** After its hour a key is free: the same request is a new launch. */
function reuseKeys(world: World, facts: Facts, before: JobFacts[]): JobFacts[] {
  const reusable = before.filter(({ key, acknowledged }) => key !== undefined && acknowledged.size === 1);
  if (reusable.length === 0) return [];
  facts.count("clock moved past a key's hour");
  world.moveClock(2 * KEY_LIFE_MS);
  return reusable.slice(0, 3).map((job) => ({
    ...job,
    acknowledged: new Set(),
    earlier: new Set([...job.earlier, ...runsOf(job, readLedger(world.readLedger())), ...job.acknowledged]),
  }));
}

function runsOf({ job }: JobFacts, ledger: ReadonlyMap<string, LedgerEntry>): string[] {
  return [...ledger.values()].filter(({ jobId }) => jobId === job.id).map(({ runId }) => runId);
}

async function judge(world: World, facts: Facts, jobs: JobFacts[], diskFull: boolean): Promise<void> {
  await settled(world, facts);
  // What was still on its way to an agent when its client gave up has arrived by now.
  await sleep(20);
  const records = await settled(world, facts);
  const ledger = readLedger(world.readLedger());
  for (const job of jobs) {
    const own = records.filter(
      (record) => argsOf(record).split(" ")[1] === job.job.id && !job.earlier.has(record.run_id),
    );
    const entries = runsOf(job, ledger)
      .filter((runId) => !job.earlier.has(runId))
      .map((runId) => ledger.get(runId)!);
    const found: Case = { facts: job, records: own, entries, diskFull };
    judgeLaunch(found, facts);
    for (const record of own) {
      const entry = ledger.get(record.run_id);
      judgeRecord(record, entry, found, facts);
      if (entry) await judgeLog(world, record, entry, job.job, facts);
    }
  }
  // A job whose run is over may have left the sleep that it waited for.
  const left = runProcesses(world.dir).filter(
    ({ runId, command }) => command.includes(world.dir) && records.some((record) => record.run_id === runId),
  );
  for (const { pid, runId, command } of left) facts.violate(`${runId} has left process ${pid}: ${command}`);
}

/** The newest runs, once none of them is alive any more. */
async function settled(world: World, facts: Facts): Promise<RunRecord[]> {
  const giveUpAt = performance.now() + STUCK_AFTER_MS;
  for (;;) {
    const runs = (await world.read(`${RUNS}?limit=60`)).json.runs as RunRecord[];
    for (const run of runs) facts.see(run);
    if (runs.every((run) => run.ended_at !== null) || performance.now() > giveUpAt) return runs;
    await sleep(15);
  }
}

function argsOf(record: RunRecord): string {
  return (record.spec as { args?: string }).args ?? "";
}

import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import type { RunRecord, Source } from "../../../host-agent/protocol/run.ts";
import type { Facts, JobFacts, KillFact } from "./facts.ts";
import { type Job, jobArgs } from "./job.ts";
import type { Random } from "./random.ts";
import { RECIPE_ID, type Reply, type World } from "./world.ts";

export const SOURCES: readonly Source[] = ["script", "pipeline"];
export const runsPath = (source: Source) => `/api/v1/${source}s/runs`;
const RETRY_PAUSE_MS = 20;
/** Only a product that is stuck takes it, also on a host under heavy load. */
const PATIENCE_MS = 180_000;

/** What the API may answer while things go wrong; any other answer is a fault. */
const MAY_PASS = new Set([429, 502, 503, 504]);

/** A client that launches jobs one after the other, follows them, and kills some. */
export async function runClient(world: World, facts: Facts, jobs: JobFacts[], random: Random): Promise<void> {
  for (const job of jobs) {
    const twice = job.key !== undefined && random.chance(0.3);
    const ids = await Promise.all([launch(world, facts, job), ...(twice ? [launch(world, facts, job)] : [])]);
    if (random.chance(0.3)) await sleep(random.between(0, 60));
    const runId = ids[0];
    if (runId === undefined) continue;
    if (random.chance(0.15)) await kill(world, facts, job.job, runId, random);
    if (random.chance(0.4)) await look(world, facts, job.job, runId, random);
    if (job.key !== undefined && random.chance(0.3)) await launch(world, facts, job);
  }
}

/** Sends the launch until it is acknowledged; without a key only once. Returns the run's id if it is known. */
export async function launch(world: World, facts: Facts, wanted: JobFacts): Promise<string | undefined> {
  const { job, key } = wanted;
  const what = job.source === "script" ? { path: world.script } : { recipe_id: RECIPE_ID };
  const body = { ...what, args: jobArgs(job, world.ledger), ...(job.terminal && { terminal: true }) };
  const headers: Record<string, string> = key === undefined ? {} : { "idempotency-key": key };
  const giveUpAt = performance.now() + PATIENCE_MS;
  wanted.asked ??= { from: Date.now(), to: Date.now() };
  for (;;) {
    facts.count("launch requests");
    const answer = await world.ask("POST", runsPath(job.source), body, headers).catch(() => undefined);
    wanted.asked.to = Date.now();
    if (answer?.status === 201) {
      acknowledge(facts, wanted, answer);
      return answer.json.run_id;
    }
    if (answer && !MAY_PASS.has(answer.status)) {
      facts.violate(`launch of ${job.id}: ${answer.status} ${JSON.stringify(answer.json)}`);
      return undefined;
    }
    facts.count(answer ? "launches refused for now" : "launches cut off");
    if (answer && JSON.stringify(answer.json).includes("nothing was started")) wanted.denials++;
    if (key === undefined) return undefined;
    if (performance.now() > giveUpAt) {
      facts.violate(`${job.id} was never acknowledged: ${answer?.status} ${JSON.stringify(answer?.json)}`);
      return undefined;
    }
    await sleep(RETRY_PAUSE_MS);
  }
}

function acknowledge(
  facts: Facts,
  { job, acknowledged, earlier, asked, keySince }: JobFacts,
  { headers, json }: Reply,
): void {
  facts.count("launches acknowledged");
  if (headers.has("idempotent-replayed")) facts.count("answers replayed");
  acknowledged.add(json.run_id);
  if (acknowledged.size > 1) facts.violate(`${job.id} has two runs: ${[...acknowledged].join(", ")}`);
  if (earlier.has(json.run_id)) {
    // The edge's memory of answers uses the wall clock; the agent's does not.
    const wasSetBack = facts.setBack.some((at) => at >= (keySince ?? asked!.from));
    if (wasSetBack) facts.excuse("replayed after its hour: the wall clock was set back");
    else facts.violate(`${job.id} was replayed after its time: ${json.run_id}`);
  }
  // A stale answer is the record of the launch, and reports that it is stale.
  if (!headers.has("hub-stale")) facts.see(json as RunRecord);
}

async function kill(world: World, facts: Facts, job: Job, runId: string, random: Random): Promise<void> {
  const orders: KillFact["order"][] = [{}, { signal: "SIGKILL" }, { grace_seconds: 0 }];
  // A shell starts what is to run in the background deaf to SIGINT.
  const order = random.pick(job.child === "none" ? [...orders, { signal: "SIGINT" as const }] : orders);
  facts.count("kills");
  const fact: KillFact = { order, answer: "uncertain" };
  facts.kills.set(runId, fact);
  const path = `${runsPath(job.source)}/${runId}/kill`;
  const answer = await world.ask("POST", path, order).catch(() => undefined);
  if (answer?.status === 200) {
    fact.answer = "accepted";
    facts.see(answer.json);
    if (answer.json.status !== "killed")
      facts.violate(`kill of ${runId} answered ${JSON.stringify(answer.json)}`);
  } else if (answer?.status === 409) {
    fact.answer = "refused";
  } else if (answer && !MAY_PASS.has(answer.status)) {
    facts.violate(`kill of ${runId}: ${answer.status} ${JSON.stringify(answer.json)}`);
  }
}

/** True after a loss of power, of a log whose name was not on the disk yet. */
async function isLogLost(world: World, run: string): Promise<boolean> {
  if (!world.power) return false;
  const { json } = await world.read(run);
  return !existsSync(json.log_path as string);
}

async function look(world: World, facts: Facts, job: Job, runId: string, random: Random): Promise<void> {
  const path = random.pick(["", `/logs?max_bytes=${random.between(1, 300)}`, "/logs?wait=1&after=0"]);
  const answer = await world.ask("GET", `${runsPath(job.source)}/${runId}${path}`).catch(() => undefined);
  if (!answer || MAY_PASS.has(answer.status)) return;
  if (answer.status === 410 && (await isLogLost(world, `${runsPath(job.source)}/${runId}`))) return;
  if (answer.status !== 200)
    facts.violate(`GET ${path} of ${runId}: ${answer.status} ${JSON.stringify(answer.json)}`);
  else if (path === "") facts.see(answer.json);
}

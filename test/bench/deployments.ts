// npm run bench:deployments: what a client waits for, one request at a time, on each deployment in one run.
import { truncate } from "node:fs/promises";

import { nodeRemote, workerd } from "../support/deployments.ts";
import { ALL, type Deploy, nodeEmbedded, startHub } from "../support/hub.ts";

const DEPLOYMENTS: [string, Deploy][] = [
  ["Node, agent embedded", nodeEmbedded],
  ["Node, agent remote", nodeRemote],
  ["workerd, agent remote", workerd],
];
const READS = 400;
const LAUNCHES = 100;
const WARM_UP = 30;
const LOG_BYTES = 10_000_000;

for (const [name, deploy] of DEPLOYMENTS) {
  await using hub = await startHub({ deploy, env: { HUB_MAX_RUNNING: "1000" } });
  const path = await hub.script("true.sh", "#!/bin/sh\nexec true\n");
  const run = await hub.ended(await hub.runScript("true"));
  await truncate(run.log_path, LOG_BYTES);
  const url = `${hub.url}/api/v1/scripts/runs`;
  const headers = { authorization: `Bearer ${ALL.key}`, "content-type": "application/json" };
  const ask = async (target: string, init: RequestInit = {}): Promise<void> => {
    const response = await fetch(target, { ...init, headers });
    await response.arrayBuffer();
    if (!response.ok) throw new Error(`${target}: ${response.status}`);
  };
  const page = `${url}/${run.run_id}/logs?after=1000&max_bytes=65536`;
  console.log(`${name.padEnd(22)}  get run   ${await latency(READS, () => ask(`${url}/${run.run_id}`))}`);
  console.log(`${name.padEnd(22)}  log page  ${await latency(READS, () => ask(page))}`);
  const body = JSON.stringify({ path });
  console.log(
    `${name.padEnd(22)}  launch    ${await latency(LAUNCHES, () => ask(url, { method: "POST", body }))}`,
  );
}
process.exit();

async function latency(count: number, work: () => Promise<void>): Promise<string> {
  for (let i = 0; i < WARM_UP; i++) await work();
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    await work();
    times.push(performance.now() - begin);
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(times.length * share)]!.toFixed(2).padStart(8);
  return `p50 ${at(0.5)} ms  p99 ${at(0.99)} ms`;
}

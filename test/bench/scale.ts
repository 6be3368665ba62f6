// npm run bench:scale: what each part of a deployment with many edges costs. For docs/scale.md.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";

import { sha256 } from "../../host-agent/system/sha256.ts";
import { memoryKV } from "../../adapters/node/kv-memory.ts";
import { unixFetch } from "../../adapters/node/unix-fetch.ts";
import { agentClient } from "../../handlers/agent-client.ts";
import { type Fetch, httpTransport } from "../../handlers/agent-transport.ts";
import { createApp } from "../../handlers/app.ts";
import { importTrustedKeys } from "../../host-agent/door/trusted-keys.ts";
import { requestSigner, verifyHead } from "../../host-agent/protocol/signature.ts";
import { startAgentProcess } from "../support/deployments.ts";
import { time } from "./figures.ts";
import { cpuMs, residentMb } from "./server.ts";

const KEY = "sk_bench_0123456789abcdef0123456789abcdef";
const OTHER_KEY = `${KEY}0`;
const HELD = 500;

const dir = await mkdtemp(join(tmpdir(), "hub-scale-"));
const script = join(dir, "true.sh");
await writeFile(script, "#!/bin/sh\nexec /bin/true\n", { mode: 0o755 });
const sleeper = join(dir, "sleep.sh");
await writeFile(sleeper, "#!/bin/sh\nexec sleep 300\n", { mode: 0o755 });
const large = join(dir, "large.sh");
await writeFile(large, "#!/bin/sh\nhead -c 1000000 /dev/zero\n", { mode: 0o755 });
const env = {
  PATH: process.env["PATH"]!,
  HUB_STATE_DIR: join(dir, "state"),
  HUB_SCRIPT_ROOTS: dir,
  HUB_MAX_RUNNING: "5000",
};
console.log(`${cpus().length} cores; the agent has a separate process, edge and load share another\n`);
await measureSignatures();
await measureAgent("a Unix socket", `unix:${join(dir, "agent.sock")}`);
await measureAgent("TCP", "127.0.0.1:0");
await rm(dir, { recursive: true });
// Held connections may still be open.
process.exit();

async function measureSignatures(): Promise<void> {
  const agent = await startAgentProcess({ dir, env });
  await agent.stop();
  const sign = await requestSigner(agent.key, "host-agent");
  const trusted = importTrustedKeys([agent.key].map(({ d: _secret, ...key }) => ({ ...key, d: undefined })));
  const head = {
    method: "GET",
    url: "http://host-agent/agent/v1/runs/run_0123456789ab?source=script",
    headers: new Headers(),
  };
  const signed = { ...head, headers: await sign(head) };
  report("edge: sign one request", await cpuOf(2_000, () => sign(head)));
  report(
    "agent: verify one",
    await cpuOf(2_000, () => verifyHead(signed, { trusted, agentName: "host-agent", now: Date.now() })),
  );
}

async function measureAgent(what: string, listen: string): Promise<void> {
  const agent = await startAgentProcess({ dir, env }, listen);
  const isUnix = agent.url.startsWith("unix:");
  const url = isUnix ? "http://host-agent" : agent.url;
  const wire: Fetch = isUnix ? unixFetch(agent.url.slice("unix:".length)) : (request) => fetch(request);
  const client = agentClient(
    httpTransport({ url, fetch: wire, sign: await requestSigner(agent.key, "host-agent") }),
  );
  // Two, because one key may take only half of the places of waiting requests.
  const keys = new Map(
    [KEY, OTHER_KEY].map((key) => [sha256(key), { name: key, scopes: ["*"], expiresAt: undefined }]),
  );
  const app = createApp({
    agent: client,
    kv: memoryKV(),
    keys: () => ({ mode: "enforced", keys }),
    digest: sha256,
    log: () => {},
    now: Date.now,
  });
  const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await app.fetch(
      new Request(`http://hub/api/v1/scripts/runs${path}`, { headers, ...init }),
    );
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  };
  const launch = async (path: string) => {
    const body = JSON.stringify({ path });
    const key = { "idempotency-key": crypto.randomUUID() };
    return (await (await ask("", { method: "POST", body, headers: { ...headers, ...key } })).json()) as {
      run_id: string;
    };
  };
  // The agent may have to wait for the second behind the last one that an earlier agent accepted.
  const run = await launch(large);
  await ask(`/${run.run_id}/logs?after=0&wait=5`);
  await time(500, 16, () => ask(`/${run.run_id}`));
  for (const [name, count, work] of [
    ["get run", 6_000, () => ask(`/${run.run_id}`)],
    ["64 KiB log page", 2_000, () => ask(`/${run.run_id}/logs?max_bytes=65536`)],
    ["launch with a key", 400, () => launch(script)],
  ] as const) {
    const cpu = { edge: process.cpuUsage(), agent: cpuMs(agent.child.pid!) };
    const { p50, perSecond } = await time(count, 16, work);
    const edge = process.cpuUsage(cpu.edge);
    const edgeMs = (edge.user + edge.system) / 1000 / count;
    const agentMs = (cpuMs(agent.child.pid!) - cpu.agent) / count;
    console.log(
      `${what}: ${name}: ${perSecond.toFixed(0)}/s, p50 ${p50.toFixed(1)} ms, CPU a request: edge ${edgeMs.toFixed(2)} ms, agent ${agentMs.toFixed(2)} ms`,
    );
  }
  const held = await launch(sleeper);
  const before = residentMb(agent.child.pid!);
  const controller = new AbortController();
  const polls = Array.from({ length: HELD }, (_, i) =>
    ask(`/${held.run_id}/logs?wait=30`, {
      signal: controller.signal,
      headers: { authorization: `Bearer ${i % 2 === 0 ? KEY : OTHER_KEY}` },
    }).catch(() => undefined),
  );
  await new Promise((resolve) => setTimeout(resolve, 8_000));
  const start = cpuMs(agent.child.pid!);
  await new Promise((resolve) => setTimeout(resolve, 5_000));
  const share = (cpuMs(agent.child.pid!) - start) / 50;
  const grown = residentMb(agent.child.pid!) - before;
  console.log(
    `${what}: ${HELD} held wait=30 requests: agent +${grown.toFixed(0)} MB, ${share.toFixed(0)} % of a core\n`,
  );
  controller.abort();
  await Promise.all(polls);
  const order = { method: "POST", body: JSON.stringify({ signal: "SIGKILL" }) };
  await ask(`/${held.run_id}/kill`, order);
  await agent.stop();
}

async function cpuOf(count: number, work: () => Promise<unknown>): Promise<number> {
  for (let i = 0; i < 200; i++) await work();
  const start = process.cpuUsage();
  for (let i = 0; i < count; i++) await work();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000 / count;
}

function report(what: string, ms: number): void {
  console.log(`${what}: ${ms.toFixed(3)} ms of CPU`);
}

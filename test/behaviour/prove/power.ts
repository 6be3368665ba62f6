import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { spawnersOf } from "../../support/processes.ts";
import type { Facts } from "./facts.ts";
import type { Random } from "./random.ts";
import { runProcesses } from "./run-processes.ts";
import type { World } from "./world.ts";

/** The power goes at any moment of the round, or soon after the last launch. */
const LATEST_MS = 1_500;
const INTERVAL_MS = 10;
const AUDIT_CLI = join(import.meta.dirname, "..", "..", "..", "host-agent", "audit", "audit-cli.ts");

/** Cuts the host's power at a random moment; resolves once its next boot has begun. */
export async function losePower(world: World, facts: Facts, random: Random): Promise<void> {
  const { device, setBootId } = world.power!;
  await sleep(random.between(0, LATEST_MS));
  for (const server of world.servers) server.halt();
  await stopAll(world);
  facts.powerLost.push(Date.now());
  device.copy();
  await killAll(world);
  device.losePower();
  setBootId();
  facts.count(`losses of power on ${world.disk.kind}`);
  for (const server of world.servers) server.resume();
}

/** The audit log as `npm run audit -- verify` finds it: what a loss of power has cut off it says in a sentence, and no more is wrong. */
export function verifyAudit({ env }: World, facts: Facts): void {
  const { stdout, stderr } = spawnSync(process.execPath, [AUDIT_CLI, "verify"], { env, encoding: "utf8" });
  if (stderr !== "" || !stdout.includes("intact to"))
    facts.violate(`the audit log after losses of power: ${stdout}${stderr}`);
}

/** The copy of a disk takes a while, and a disk holds nothing that was written after what it lacks: nobody writes meanwhile. */
async function stopAll(world: World): Promise<void> {
  const stopped = new Set<number>();
  for (;;) {
    const running = processesOf(world).filter((pid) => !stopped.has(pid));
    if (running.length === 0) return;
    for (const pid of running) {
      stopped.add(pid);
      send(pid, "SIGSTOP");
    }
    await sleep(INTERVAL_MS);
  }
}

async function killAll(world: World): Promise<void> {
  for (;;) {
    const left = processesOf(world);
    if (left.length === 0 && world.servers.every((server) => server.hasEnded())) return;
    for (const pid of left) send(pid, "SIGKILL");
    await sleep(INTERVAL_MS);
  }
}

/** Of the servers that live, their spawners, and all runs. */
function processesOf(world: World): number[] {
  const servers = world.servers.filter((server) => !server.hasEnded()).map((server) => server.pid());
  const spawners = servers.flatMap((pid) => {
    try {
      return spawnersOf(pid);
    } catch {
      return [];
    }
  });
  return [...servers, ...spawners, ...runProcesses(world.dir).map(({ pid }) => pid)];
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended in between.
  }
}

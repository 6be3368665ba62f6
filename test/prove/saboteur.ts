import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

import type { Facts } from "./facts.ts";
import type { Random } from "./random.ts";
import { runProcesses } from "./run-processes.ts";
import type { World } from "./world.ts";

/** The longest that any harm lasts, unless it ends a process. */
const LONGEST_MS = 150;
/** Together far less than the hour for which a key holds. */
const CLOCK_STEP_MS = 120_000;

type Act = (world: World, facts: Facts, random: Random) => Promise<void>;

const SERVER_SIGNALS = ["SIGKILL", "SIGKILL", "SIGTERM", "SIGSTOP", "SIGSTOP", "SIGSTOP"] as const;

const signalServer: Act = async (world, facts, random) => {
  const server = random.pick(world.servers);
  const signal = random.pick(SERVER_SIGNALS);
  facts.count(`${signal} to the ${server.name}`);
  server.signal(signal);
  if (signal !== "SIGSTOP") return;
  await sleep(random.between(5, LONGEST_MS));
  server.signal("SIGCONT");
};

function signalRun(part: "wrapper" | "job"): Act {
  return async (world, facts, random) => {
    const members = runProcesses(world.dir).filter(
      ({ isWrapper, command }) => command.includes(world.dir) && isWrapper === (part === "wrapper"),
    );
    if (members.length === 0) return;
    const { pid, runId } = random.pick(members);
    const signal = random.pick(["SIGKILL", "SIGTERM", "SIGSTOP"] as const);
    facts.count(`${signal} to the ${part}`);
    if (signal !== "SIGSTOP") {
      facts.harmed.set(runId, (facts.harmed.get(runId) ?? new Set()).add(`${part} ${signal}`));
    }
    send(pid, signal);
    if (signal !== "SIGSTOP") return;
    await sleep(random.between(5, LONGEST_MS));
    send(pid, "SIGCONT");
  };
}

const fillDisk: Act = async (world, facts, random) => {
  facts.count("disk full");
  const pids = world.servers.map((server) => server.pid());
  world.disk.fill(pids);
  await sleep(random.between(5, LONGEST_MS));
  world.disk.free(pids);
};

const holdLock: Act = async (world, facts, random) => {
  const path = join(world.stateDir, random.pick(["runs.db", "runs.db", "kv.db"]));
  if (!existsSync(path)) return;
  using db = new DatabaseSync(path, { timeout: 1 });
  try {
    db.exec("BEGIN IMMEDIATE");
  } catch {
    return;
  }
  facts.count("SQLite busy");
  await sleep(random.between(5, LONGEST_MS));
  db.exec("ROLLBACK");
};

const moveClock: Act = async (world, facts, random) => {
  facts.count("clock moved");
  world.moveClock(random.between(-CLOCK_STEP_MS, CLOCK_STEP_MS));
};

const harmLine: Act = async (world, facts, random) => {
  const kind = random.pick(["cut", "cut answer", "delay", "duplicate"] as const);
  facts.count(`request ${kind}`);
  world.line?.harm({
    kind,
    after: random.between(0, 600),
    ms: random.between(1, LONGEST_MS),
    afterMs: random.between(0, LONGEST_MS),
  });
};

const ACTS: Act[] = [
  signalServer,
  signalRun("wrapper"),
  signalRun("wrapper"),
  signalRun("job"),
  signalRun("job"),
  fillDisk,
  holdLock,
  moveClock,
];

/** Does some harm at random moments, and takes back what can be taken back. Resolves with whether the disk was full. */
export async function sabotage(world: World, facts: Facts, random: Random): Promise<{ diskFull: boolean }> {
  const acts = world.line ? [...ACTS, harmLine, harmLine, harmLine] : ACTS;
  const chosen = Array.from({ length: random.between(1, 3) }, () => random.pick(acts));
  await Promise.all(
    chosen.map(async (act) => {
      const own = random.fork();
      await sleep(own.between(0, LONGEST_MS));
      await act(world, facts, own);
    }),
  );
  world.line?.heal();
  return { diskFull: chosen.includes(fillDisk) };
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended in between.
  }
}

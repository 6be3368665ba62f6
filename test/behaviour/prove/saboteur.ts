import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

import { spawnersOf } from "../../support/processes.ts";
import type { Exhausted, Facts } from "./facts.ts";
import { endedSince, hide } from "./hide.ts";
import type { LineFault } from "./line.ts";
import type { Random } from "./random.ts";
import { runProcesses } from "./run-processes.ts";
import type { Topology, World } from "./world.ts";

/** The longest that any harm lasts, unless it ends a process. */
const LONGEST_MS = 150;
/** A burst of launches takes longer than a few. */
const BURST_MS = 600;
/** How long to look for a process to harm, and how often: the clients launch all the time. */
const LOOK_FOR_MS = 400;
const LOOK_INTERVAL_MS = 5;
/** Together far less than the hour for which a key holds. */
const CLOCK_STEP_MS = 120_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** How far a clock is set: beyond the hour of a key, and beyond the days for which runs are kept. */
const CLOCK_JUMPS_MS = [HOUR_MS, 26 * HOUR_MS, 60 * DAY_MS];

/** Does one kind of harm, takes back what can be taken back, and calls `count` if it has taken effect. */
type Act = (world: World, facts: Facts, random: Random, count: () => void) => Promise<void>;

/** One kind of harm, by the name that it is counted under. */
export interface Harm {
  name: string;
  act: Act;
}

const SIGNALS = ["SIGKILL", "SIGTERM", "SIGSTOP"] as const;
type Signal = (typeof SIGNALS)[number];

function signalServer(signal: Signal, name: "api" | "agent"): Harm {
  return {
    name: `${signal} to the ${name}`,
    async act(world, _facts, random, count) {
      const server = world[name]!;
      if (server.signal(signal)) count();
      if (signal !== "SIGSTOP") return;
      await sleep(random.between(5, LONGEST_MS));
      server.signal("SIGCONT");
    },
  };
}

/** The process that starts runs, of whichever server holds the agent. */
function signalSpawner(signal: Signal): Harm {
  return {
    name: `${signal} to the spawner`,
    async act({ agent, api }, _facts, random, count) {
      const pids = spawnersUnder((agent ?? api).pid());
      if (pids.map((pid) => send(pid, signal)).includes(true)) count();
      if (signal !== "SIGSTOP") return;
      await sleep(random.between(5, LONGEST_MS));
      for (const pid of pids) send(pid, "SIGCONT");
    },
  };
}

function spawnersUnder(pid: number): number[] {
  try {
    return spawnersOf(pid);
  } catch {
    // The server, or one of its children, has ended in between.
    return [];
  }
}

function signalRun(signal: Signal, part: "wrapper" | "job"): Harm {
  return {
    name: `${signal} to the ${part}`,
    async act(world, facts, random, count) {
      const victim = await findPart(world, part, random);
      if (!victim) return;
      const { pid, runId } = victim;
      if (!send(pid, signal)) return;
      count();
      if (signal !== "SIGSTOP") {
        facts.harmed.set(runId, (facts.harmed.get(runId) ?? new Set()).add(`${part} ${signal}`));
      }
      if (signal !== "SIGSTOP") return;
      await sleep(random.between(5, LONGEST_MS));
      send(pid, "SIGCONT");
    },
  };
}

async function findPart(world: World, part: "wrapper" | "job", random: Random) {
  const giveUpAt = performance.now() + LOOK_FOR_MS;
  while (performance.now() < giveUpAt) {
    const found = runProcesses(world.dir).filter((each) => each.part === part);
    if (found.length > 0) return random.pick(found);
    await sleep(LOOK_INTERVAL_MS);
  }
  return undefined;
}

const fillDisk: Harm = {
  name: "disk full",
  async act(world, facts, random, count) {
    const pids = world.servers.flatMap((server) => [server.pid(), ...spawnersUnder(server.pid())]);
    await useUp("blocks", facts, random, {
      fill: () => world.disk.fill(pids),
      free: () => world.disk.free(pids),
      count,
    });
  },
};

/** Notes when the disk was full: it excuses nothing that was not asked for then. */
async function useUp(
  of: Exhausted,
  facts: Facts,
  random: Random,
  { fill, free, count }: { fill(): boolean; free(): void; count: () => void },
): Promise<void> {
  const full = { of, from: Date.now(), to: Infinity };
  // Before it is tried: a part of it may have had an effect.
  facts.full.push(full);
  if (fill()) count();
  await sleep(random.between(5, LONGEST_MS));
  free();
  full.to = Date.now();
}

const fillInodes: Harm = {
  name: "inodes full",
  async act({ disk }, facts, random, count) {
    await useUp("inodes", facts, random, { fill: disk.fillInodes, free: disk.freeInodes, count });
  },
};

const holdLock: Harm = {
  name: "SQLite busy",
  async act(world, _facts, random, count) {
    const path = join(world.stateDir, random.pick(["runs.db", "runs.db", "kv.db"]));
    if (!existsSync(path)) return;
    using db = new DatabaseSync(path, { timeout: 1 });
    try {
      db.exec("BEGIN IMMEDIATE");
    } catch {
      return;
    }
    count();
    await sleep(random.between(5, LONGEST_MS));
    db.exec("ROLLBACK");
  },
};

const moveClock: Harm = {
  name: "clock moved",
  async act(world, _facts, random, count) {
    world.moveClock({ passed: random.between(-CLOCK_STEP_MS, CLOCK_STEP_MS) });
    count();
  },
};

/** Set by somebody, and put right later in the round or in one of the next. */
const setClock: Harm = {
  name: "wall clock set by hours or days",
  async act(world, facts, random, count) {
    const set = random.pick(CLOCK_JUMPS_MS) * random.pick([-1, 1]);
    if (set < world.ahead().set) facts.setBack.push(Date.now());
    world.moveClock({ set: set - world.ahead().set });
    count();
    await sleep(random.between(5, 2 * LONGEST_MS));
    if (random.chance(0.3)) return;
    if (world.ahead().set > 0) facts.setBack.push(Date.now());
    world.moveClock({ set: -world.ahead().set });
  },
};

/** So long nobody can read a file of a run, once the run has ended. */
const UNREADABLE_FOR_MS = 1_500;

/** Hides a file of a run that has ended, and of which the agent has not seen the end. */
const hideFile: Harm = {
  name: "files of a run unreadable",
  async act(world, facts, random, count) {
    const server = world.agent ?? world.api;
    const since = Date.now();
    if (!server.signal("SIGSTOP")) return;
    using hidden = await hideEndedRun(world, random, since);
    server.signal("SIGCONT");
    if (hidden === undefined) return;
    count();
    facts.count(`${hidden.what} unreadable: ${hidden.errno}`);
    await sleep(random.between(5, UNREADABLE_FOR_MS));
  },
};

async function hideEndedRun(world: World, random: Random, since: number) {
  const giveUpAt = performance.now() + LOOK_FOR_MS;
  while (performance.now() < giveUpAt) {
    const ended = endedSince(world.stateDir, since);
    const hidden = ended.length === 0 ? undefined : hide(random.pick(ended), world, random);
    if (hidden !== undefined) return hidden;
    await sleep(LOOK_INTERVAL_MS);
  }
  return undefined;
}

function harmLine(kind: LineFault["kind"]): Harm {
  return {
    name: `request ${kind}`,
    async act(world, _facts, random, count) {
      const fault = {
        kind,
        after: random.between(0, 600),
        ms: random.between(1, LONGEST_MS),
        afterMs: random.between(0, LONGEST_MS),
      };
      world.line!.harm(fault, count);
    },
  };
}

const EVERYWHERE: readonly Harm[] = [
  ...SIGNALS.flatMap((signal) => [
    signalServer(signal, "api"),
    signalSpawner(signal),
    signalRun(signal, "wrapper"),
    signalRun(signal, "job"),
  ]),
  fillDisk,
  fillInodes,
  holdLock,
  moveClock,
  setClock,
  hideFile,
];
/** What a burst of launches meets as well. */
const IN_A_BURST: readonly Harm[] = SIGNALS.map(signalSpawner);
const WITH_A_LINE: readonly Harm[] = [
  ...SIGNALS.map((signal) => signalServer(signal, "agent")),
  ...(["cut", "cut answer", "delay", "duplicate"] as const).map(harmLine),
];

/** Every kind of harm that there is for a product deployed like this. */
export function kindsOfHarm(topology: Topology): readonly Harm[] {
  return topology === "remote" ? [...WITH_A_LINE, ...EVERYWHERE] : EVERYWHERE;
}

/**
 * Does one to three kinds of harm at random moments: in the round with this
 * number the kind whose turn it is, so that all are met, and others; in a burst also to the spawner, more than once.
 */
export async function sabotage(
  world: World,
  facts: Facts,
  random: Random,
  { round, isBurst }: { round: number; isBurst: boolean },
): Promise<void> {
  const kinds = kindsOfHarm(world.topology);
  const others = Array.from({ length: random.between(0, 2) }, () => random.pick(kinds));
  const spawners = isBurst ? Array.from({ length: 3 }, () => random.pick(IN_A_BURST)) : [];
  const chosen = [kinds[round % kinds.length]!, ...others, ...spawners];
  const withinMs = isBurst ? BURST_MS : LONGEST_MS;
  await Promise.all(
    chosen.map(async ({ name, act }) => {
      const own = random.fork();
      await sleep(own.between(0, withinMs));
      await act(world, facts, own, () => {
        facts.count(name);
        if (isBurst && name.endsWith("the spawner")) facts.count("spawner harmed in a burst");
      });
    }),
  );
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    // It has ended in between.
    return false;
  }
}

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { canMount, type FileSystem } from "../../support/block-device.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../../support/other-user.ts";
import { runsPath, SOURCES } from "./client.ts";
import { createFacts, type Facts, type JobFacts, type Violation } from "./facts.ts";
import { verifyAudit } from "./power.ts";
import { seededRandom } from "./random.ts";
import { playRound } from "./round.ts";
import { createWorld, type Topology, type World, type WorldOptions } from "./world.ts";

/** A separate product, which runs at the same time as the others. */
export interface Lane {
  topology: Topology;
  /** Its servers and jobs are of the user `nobody`, where that is possible: from root no file can be hidden by its mode. */
  asNobody?: boolean;
}

export interface ProveOptions {
  /** In all, over all lanes. */
  rounds: number;
  seed: number;
  /** By default both topologies, as this user and as `nobody`. */
  lanes?: readonly Lane[];
  /** Rounds in which the host loses power, in addition; by default one for each 50 of the others. */
  powerRounds?: number;
  onRound?(done: number, violations: readonly Violation[]): void;
}

export interface Figures {
  counts: Map<string, number>;
  /** How often something was accepted because of a harm, by what and why. */
  excused: Map<string, number>;
  violations: Violation[];
  /** What this host cannot do, a sentence each. */
  skipped: Set<string>;
  /** The folders that were kept because something is wrong with them. */
  kept: string[];
}

/** The rounds of one world. */
interface Share {
  lane: number;
  /** How many. */
  share: number;
  /** Worlds of one topology count their rounds together, so that they take turns at the kinds of harm. */
  numbers: { first: number; step: number };
}

/** Enough to see what is wrong. */
const MOST_VIOLATIONS = 20;
const POWER_EVERY = 50;
const POWER_LANE = 9;
const LANES: readonly Lane[] = [
  { topology: "embedded" },
  { topology: "remote" },
  { topology: "embedded", asNobody: true },
  { topology: "remote", asNobody: true },
];
const FILE_SYSTEMS: readonly FileSystem[] = ["ext4", "xfs"];

/** Plays the rounds and says what went wrong; ends all that it has started. */
export async function prove({
  rounds,
  seed,
  lanes = LANES,
  powerRounds = Math.floor(rounds / POWER_EVERY),
  onRound = () => {},
}: ProveOptions): Promise<Figures> {
  const figures: Figures = {
    counts: new Map(),
    excused: new Map(),
    violations: [],
    skipped: new Set(),
    kept: [],
  };
  let done = 0;

  async function play(options: WorldOptions, { lane, share, numbers }: Share): Promise<void> {
    const facts = createFacts();
    const world = await createWorld(options);
    noteSkipped(world, figures.skipped);
    try {
      let before: JobFacts[] = [];
      for (let own = 0; own < share && figures.violations.length < MOST_VIOLATIONS; own++) {
        const name = `${options.fileSystem ?? options.topology[0]}${lane}r${own}`;
        const random = seededRandom(seed * 1_000_003 + lane * 100_003 + own);
        const number = own * numbers.step + numbers.first;
        before = await playRound({ world, facts, random, name, number }, before);
        figures.violations.push(...facts.violations.splice(0).map((text) => `round ${name}: ${text}`));
        onRound(++done, figures.violations);
      }
      await seeAllAgain(world, facts);
      if (world.power) verifyAudit(world, facts);
    } catch (error) {
      facts.violate(
        `lane ${lane}, ${options.topology}: ${error instanceof Error ? error.stack : String(error)}`,
      );
    } finally {
      figures.violations.push(...facts.violations);
      for (const server of world.servers)
        add(figures.counts, `starts of the ${server.name}`, server.starts());
      for (const [what, n] of facts.counts) add(figures.counts, what, n);
      for (const [what, n] of facts.excused) add(figures.excused, what, n);
      const isWrong = figures.violations.length > 0;
      if (isWrong) figures.kept.push(world.dir);
      await world.stop({ keepFolder: isWrong });
    }
  }

  async function playPowerRounds(): Promise<void> {
    const kinds = FILE_SYSTEMS.filter((kind) => {
      const can = canMount(kind);
      if (!can && powerRounds > 0)
        figures.skipped.add(
          `loss of power on ${kind}: only root with mkfs.${kind} and a loop device can mount an image`,
        );
      return can;
    });
    for (const [i, fileSystem] of kinds.entries()) {
      const share = Math.ceil((powerRounds - i) / kinds.length);
      const topology = i % 2 === 0 ? "embedded" : "remote";
      if (share > 0)
        await play({ topology, fileSystem }, { lane: POWER_LANE + i, share, numbers: { first: 0, step: 1 } });
    }
  }

  const isRoot = process.getuid?.() === 0;
  if (isRoot && !CAN_BE_NOBODY) figures.skipped.add(`files unreadable by EACCES: ${WHY_NOT_NOBODY}`);
  if (!isRoot) figures.skipped.add("files unreadable by EIO: only root can mount");
  await Promise.all([
    ...lanes.map(({ topology, asNobody }, lane) =>
      play(
        { topology, uid: asNobody && CAN_BE_NOBODY ? NOBODY_UID : undefined },
        // A share that the seed and nothing else decides on.
        { lane, share: Math.ceil((rounds - lane) / lanes.length), numbers: numbersOf(lane, lanes) },
      ),
    ),
    playPowerRounds(),
  ]);
  add(figures.counts, "rounds", done);
  return figures;
}

function numbersOf(lane: number, lanes: readonly Lane[]): Share["numbers"] {
  const { topology } = lanes[lane]!;
  const isSame = (each: Lane) => each.topology === topology;
  return { first: lanes.slice(0, lane).filter(isSame).length, step: lanes.filter(isSame).length };
}

function noteSkipped({ disk, hasTerminals }: World, skipped: Set<string>): void {
  if (disk.kind === "RLIMIT_FSIZE") {
    skipped.add("inodes full: nothing may be mounted here");
    skipped.add("disk full is replaced by RLIMIT_FSIZE: nothing may be mounted here");
  }
  if (!hasTerminals) skipped.add("terminal mode: it does not work on this host");
}

/** Every record of every round once more: none may have changed since its run ended. */
async function seeAllAgain(world: World, facts: Facts): Promise<void> {
  const seen = new Set<string>();
  for (const source of SOURCES) {
    for (let cursor = ""; ;) {
      const { json } = await world.read(`${runsPath(source)}?limit=500${cursor}`);
      for (const run of json.runs as RunRecord[]) {
        facts.see(run);
        seen.add(run.run_id);
      }
      if (json.next_cursor === null) break;
      cursor = `&cursor=${json.next_cursor}`;
    }
  }
  for (const runId of facts.terminalRuns()) if (!seen.has(runId)) facts.violate(`${runId} is gone`);
}

function add(counts: Map<string, number>, what: string, n: number): void {
  counts.set(what, (counts.get(what) ?? 0) + n);
}

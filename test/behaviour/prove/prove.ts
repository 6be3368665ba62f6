import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { runsPath, SOURCES } from "./client.ts";
import { createFacts, type Facts, type JobFacts, type Violation } from "./facts.ts";
import { seededRandom } from "./random.ts";
import { playRound } from "./round.ts";
import { createWorld, type Topology, type World } from "./world.ts";

export interface ProveOptions {
  /** In all, over all lanes. */
  rounds: number;
  seed: number;
  /** Each lane is a separate product; they run at the same time. */
  lanes: readonly Topology[];
  onRound?(done: number, violations: number): void;
}

export interface Figures {
  counts: Map<string, number>;
  violations: Violation[];
  disk: string;
  /** The folders that were kept because something is wrong with them. */
  kept: string[];
}

/** Enough to see what is wrong. */
const MOST_VIOLATIONS = 20;

/** Plays the rounds and says what went wrong; ends all that it has started. */
export async function prove({ rounds, seed, lanes, onRound = () => {} }: ProveOptions): Promise<Figures> {
  const figures: Figures = { counts: new Map(), violations: [], disk: "", kept: [] };
  let done = 0;

  async function runLane(topology: Topology, lane: number): Promise<void> {
    const facts = createFacts();
    const world = await createWorld(topology);
    figures.disk = world.disk.kind;
    try {
      let before: JobFacts[] = [];
      // A share that the seed and nothing else decides on.
      const share = Math.ceil((rounds - lane) / lanes.length);
      for (let own = 0; own < share && figures.violations.length < MOST_VIOLATIONS; own++) {
        const name = `${topology[0]}${lane}r${own}`;
        const random = seededRandom(seed * 1_000_003 + lane * 100_003 + own);
        before = await playRound({ world, facts, random, name, number: own }, before);
        figures.violations.push(...facts.violations.splice(0).map((text) => `round ${name}: ${text}`));
        onRound(++done, figures.violations.length);
      }
      await seeAllAgain(world, facts);
    } catch (error) {
      facts.violate(`lane ${lane}, ${topology}: ${error instanceof Error ? error.stack : String(error)}`);
    } finally {
      figures.violations.push(...facts.violations);
      for (const server of world.servers)
        add(figures.counts, `starts of the ${server.name}`, server.starts());
      for (const [what, n] of facts.counts) add(figures.counts, what, n);
      const isWrong = figures.violations.length > 0;
      if (isWrong) figures.kept.push(world.dir);
      await world.stop({ keepFolder: isWrong });
    }
  }

  await Promise.all(lanes.map(runLane));
  add(figures.counts, "rounds", done);
  return figures;
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

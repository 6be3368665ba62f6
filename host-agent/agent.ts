import { accessSync, chmodSync, constants, statSync } from "node:fs";
import { join } from "node:path";

import { type AgentConfig, ConfigError, type Env } from "./config.ts";
import { makeFolder } from "./make-folder.ts";
import { identify } from "./process-identity.ts";
import { openRecipes } from "./recipes.ts";
import { openRunStore } from "./run-store.ts";
import { createRuns } from "./runs.ts";
import { openScripts } from "./scripts.ts";
import { createServer, type Fetch } from "./server.ts";

/** An agent that is at work, in this process. */
export interface Agent {
  /** Its API, /agent/v1. Whoever can call it may do all that it can: the door stands in front of it. */
  fetch: Fetch;
  /** How many runs are alive, after a look at each. */
  countAlive(): Promise<number>;
  /** Answers every request that is held until a log grows, now and from now on. */
  stopWaiting(): void;
  /** Stops looking after the runs; they go on. */
  close(): Promise<void>;
}

const SUPERVISE_INTERVAL_MS = 1_000;

/**
 * Opens the state folder, takes up the runs that are in it and looks after them
 * until `close`. Throws ConfigError when the folder cannot be used.
 */
export async function startAgent(
  config: AgentConfig,
  env: Env,
  now: () => number = Date.now,
): Promise<Agent> {
  prepareStateDir(config.stateDir);
  const store = openRunStore(join(config.stateDir, "runs.db"));
  const recipes = openRecipes(config.recipesFile);
  const scripts = openScripts(config.scriptRoots);
  const runs = createRuns({
    store,
    recipes,
    scripts,
    stateDir: config.stateDir,
    env,
    self: identify(process.pid)!,
    maxRunning: config.maxRunning,
    now,
  });
  const supervision = repeat(runs.supervise, SUPERVISE_INTERVAL_MS);
  await supervision.first;
  return {
    fetch: createServer({ runs, recipes, scripts }),
    countAlive: runs.settleAndCountAlive,
    stopWaiting: runs.stopWaiting,
    async close() {
      await runs.stopReading();
      await supervision.stop();
      store.close();
    },
  };
}

function prepareStateDir(stateDir: string): void {
  try {
    for (const folder of [stateDir, join(stateDir, "runs"), join(stateDir, "logs")]) {
      makeFolder(folder);
    }
    const { uid } = statSync(stateDir);
    if (uid !== process.getuid?.()) {
      throw new ConfigError(`HUB_STATE_DIR: ${stateDir} belongs to another user (uid ${uid})`);
    }
    chmodSync(stateDir, 0o700);
    accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`HUB_STATE_DIR: ${stateDir} cannot be used: ${(error as Error).message}`);
  }
}

/** Runs `work` now and then again and again, each time `intervalMs` after its end. A failure is logged, not fatal. */
function repeat(work: () => Promise<void>, intervalMs: number) {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const run = async (): Promise<void> => {
    try {
      await work();
    } catch (error) {
      console.error(JSON.stringify({ level: "error", event: "supervise_failed", error: String(error) }));
    }
    if (stopped) return;
    timer = setTimeout(() => (current = run()), intervalMs);
    timer.unref();
  };
  let current = run();
  return {
    first: current,
    async stop(): Promise<void> {
      stopped = true;
      clearTimeout(timer);
      await current;
    },
  };
}

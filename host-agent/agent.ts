import { accessSync, chmodSync, constants, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { createCallbacks } from "./callbacks.ts";
import { type AgentConfig, ConfigError, type Env } from "./config.ts";
import { identify } from "./process-identity.ts";
import { openRecipes } from "./recipes.ts";
import { openRunStore } from "./run-store.ts";
import { createRuns, publicRun } from "./runs.ts";
import { openScripts } from "./scripts.ts";
import { createServer, type Fetch } from "./server.ts";

/** An agent that is at work, in this process. */
export interface Agent {
  /** Its API, /agent/v1. Whoever can call it may do all that it can: the door stands in front of it. */
  fetch: Fetch;
  countAlive(): number;
  /** Stops looking after the runs; they go on. */
  close(): Promise<void>;
}

const SUPERVISE_INTERVAL_MS = 1_000;
const CALLBACK_INTERVAL_MS = 1_000;

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
  const callbacks = createCallbacks({
    ...config.callbacks,
    store: store.callbacks,
    record: (runId) => publicRun(store.get(runId)!),
    log: (entry) => console.error(JSON.stringify(entry)),
    now,
  });
  const runs = createRuns({
    store,
    recipes,
    scripts,
    stateDir: config.stateDir,
    env,
    self: identify(process.pid)!,
    maxRunning: config.maxRunning,
    callbackRules: callbacks.rules,
    now,
  });
  const supervision = repeat("supervise_failed", runs.supervise, SUPERVISE_INTERVAL_MS);
  await supervision.first;
  // A round of its own: whoever is called back may be slow, and the runs are looked after in time.
  const calling = repeat("callbacks_failed", callbacks.startDue, CALLBACK_INTERVAL_MS);
  return {
    fetch: createServer({ runs, recipes, scripts }),
    countAlive: runs.countAlive,
    async close() {
      await Promise.all([supervision.stop(), calling.stop()]);
      await callbacks.close();
      store.close();
    },
  };
}

function prepareStateDir(stateDir: string): void {
  try {
    for (const folder of [stateDir, join(stateDir, "runs"), join(stateDir, "logs")]) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
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
function repeat(failure: string, work: () => Promise<void> | void, intervalMs: number) {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const run = async (): Promise<void> => {
    try {
      await work();
    } catch (error) {
      console.error(JSON.stringify({ level: "error", event: failure, error: String(error) }));
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

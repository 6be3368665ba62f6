import { mkdirSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { onTestFinished } from "vitest";

import { parseCatalogue } from "../../../host-agent/catalogue/recipes-file.ts";
import type { Recipes } from "../../../host-agent/catalogue/recipes.ts";
import { openScripts } from "../../../host-agent/catalogue/scripts.ts";
import type { LaunchOrder } from "../../../host-agent/protocol/launch.ts";
import { createLaunches } from "../../../host-agent/runs/launch.ts";
import { createLaunchQueue } from "../../../host-agent/runs/launch-queue.ts";
import { createReconcile } from "../../../host-agent/runs/reconcile.ts";
import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { scriptedExecutor } from "./scripted-executor.ts";

export const NOW = 1_800_000_000_000;
export const BOOTED_AT = NOW - 500_000;
export const HOUR_MS = 3_600_000;
export const SELF = { pid: 10, startTime: "10", bootId: "b" };
export const PROCESS = { pid: 7, startTime: "7", bootId: "b" };

/** Launches over a real store and real scripts; the executor starts what the test says. */
export function world({ maxRunning = 8, atOnce = 16, waitingText = 9_999 } = {}) {
  const dir = realpathSync(tempDir());
  const root = join(dir, "root");
  mkdirSync(root);
  const path = join(root, "job.sh");
  writeFileSync(path, "#!/bin/sh\n", { mode: 0o755 });
  const store = openRunStore(":memory:");
  onTestFinished(() => store.close());
  const calls: string[] = [];
  const state = {
    now: NOW,
    isForeignAlive: false,
    async onStart(): Promise<void> {},
    onMarkRunning(): void {},
    onInsert(): void {},
    /** Why nobody can tell whether a script was changed. */
    scriptFault: undefined as Error | undefined,
  };
  const scripts = openScripts([root]);
  const recipe = { recipe_id: "r", title: "R", description: "", command: ["/bin/true"] };
  const catalogueOf = (...recipes: object[]) => parseCatalogue(JSON.stringify({ recipes }), dir);
  let catalogue = catalogueOf(recipe);
  const executor = scriptedExecutor(dir, {
    async start({ runId }) {
      calls.push(`start ${runId}`);
      await state.onStart();
      return { process: PROCESS, logFile: "1:2" };
    },
    kill: async ({ runId, process }) => void calls.push(`kill ${runId} ${process?.pid}`),
  });
  // Both clocks of the host move together.
  const clock = () => ({ at: state.now, uptime: state.now - BOOTED_AT });
  const agentStore: RunStore = {
    ...store,
    insertOrFind(...launch) {
      state.onInsert();
      return store.insertOrFind(...launch);
    },
    markRunning(...started) {
      state.onMarkRunning();
      return store.markRunning(...started);
    },
  };
  const common = { store: agentStore, executor, self: SELF, clock, now: () => state.now };
  const { reconcile, reconcileAll } = createReconcile({
    ...common,
    signalLock: { hold: (work) => work(), close() {} },
    isAgentAlive: () => state.isForeignAlive,
    isLaunching: (runId): boolean => launches.isUnderWay(runId),
    markers: async () => () => [],
  });
  const launches = createLaunches(
    {
      ...common,
      recipes: { current: async () => catalogue } as Recipes,
      scripts: {
        ...scripts,
        isUnchanged: async (script) => {
          if (state.scriptFault) throw state.scriptFault;
          return scripts.isUnchanged(script);
        },
      },
      logDir: join(dir, "logs"),
      checkCallbackUrl() {},
      maxRunning,
      launchQueue: createLaunchQueue({ atOnce, waiting: 64, waitingPerKey: 64, waitingText }),
    },
    { reconcile, reconcileAlive: async () => void (await reconcileAll(store.alive())) },
  );
  const order = (changes: Partial<LaunchOrder> = {}) =>
    ({
      source: "script",
      spec: { path, args: "" },
      key_name: "acme",
      launch_token: "t",
      fingerprint: "f",
      ...changes,
    }) as LaunchOrder;
  return {
    path,
    store,
    executor,
    launches,
    state,
    calls,
    removeRecipes: () => void (catalogue = catalogueOf()),
    launch: (changes?: Partial<LaunchOrder>) => launches.launch(order(changes)),
    starts: () => calls.filter((call) => call.startsWith("start")).length,
  };
}

export const ofRecipe = (args: string) => ({ source: "pipeline", spec: { recipe_id: "r", args } }) as const;

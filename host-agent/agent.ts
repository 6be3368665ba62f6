import { join } from "node:path";

import { type AuditLog, openAuditLog } from "./audit/audit-log.ts";
import { auditOperations } from "./audit/audit-operations.ts";
import { indexLogs } from "./index-logs.ts";
import { openLogIndex } from "./logs/log-index.ts";
import { createCallbacks } from "./callbacks/callbacks.ts";
import { type AgentConfig, type Env } from "./config.ts";
import { ConfigError } from "./system/config-error.ts";
import { type Clock, hostClock } from "./system/clock.ts";
import type { Log } from "./system/log-line.ts";
import { repeat } from "./system/repeat.ts";
import { prepareStateDir } from "./state-dir.ts";
import { createOperations } from "./operations.ts";
import { identify, isAlive } from "./executor/process-identity.ts";
import type { Agent as Operations } from "./protocol/agent.ts";
import { openRecipes, type RecipesProblem } from "./catalogue/recipes.ts";
import { openDiskReserve } from "./store/disk-reserve.ts";
import { openRunStore, type RunStore } from "./store/run-store.ts";
import { chooseHelper } from "./executor/helper.ts";
import { openRunUser } from "./executor/run-user.ts";
import { createRuns } from "./runs/runs.ts";
import { openScripts } from "./catalogue/scripts.ts";
import { unenforceable } from "./executor/cgroup-limits.ts";
import { type CgroupRoot, type NoCgroup, openCgroupRoot } from "./executor/cgroup-root.ts";
import type { Executor } from "./executor/executor.ts";
import { localExecutor } from "./executor/local.ts";
import { publicRun } from "./runs/record.ts";
import { openAdvisoryLock } from "./store/advisory-lock.ts";

/** An agent that is at work, in this process. Every caller may do all that it can: authentication is in front of it. */
export interface Agent {
  operations: Operations;
  /** The record of changes: for those that the agent's owner makes itself. */
  audit: Pick<AuditLog, "record" | "recordRefusal">;
  /** What is wrong with the recipes file now; undefined when all is well. */
  recipesProblem(): Promise<RecipesProblem | undefined>;
  /** How many runs are alive, after a look at each. */
  countAlive(): Promise<number>;
  /** Answers every request that is held until a log grows, now and from now on. */
  stopWaiting(): void;
  /** Stops supervising the runs; they go on. */
  close(): Promise<void>;
}

const SUPERVISE_INTERVAL_MS = 1_000;
const CALLBACK_INTERVAL_MS = 1_000;
const PRUNE_INTERVAL_MS = 1_000;
const SWEEP_INTERVAL_MS = 60_000;

/**
 * Opens the state folder, recovers the runs that are in it and supervises them
 * until `close`. Throws ConfigError when the folder cannot be used.
 */
export async function startAgent(
  config: AgentConfig,
  env: Env,
  log: Log,
  now: () => number = Date.now,
  clock: Clock = hostClock(now),
): Promise<Agent> {
  prepareStateDir(config.stateDir);
  // Before the spawner is started: it and the runs are in the cgroup of this process until they leave it.
  const cgroups = openCgroups(config);
  const runUser = config.runAs === undefined ? undefined : await openRunUser(config.runAs);
  const store = openRunStore(
    join(config.stateDir, "runs.db"),
    openDiskReserve(join(config.stateDir, "reserve")),
  );
  const audit = openAudit(config, store, log, now);
  const recipes = openRecipes(config.recipesFile, log, (outcome, recipes_sha256) =>
    audit.record({ event: "recipes", outcome, recipes_sha256 }),
  );
  const scripts = openScripts(config.scriptRoots, config.leftOut);
  const callbacks = createCallbacks({
    ...config.callbacks,
    store: store.callbacks,
    record: (runId) => publicRun(store.get(runId)!),
    log,
    now,
  });
  const logIndex = openLogIndex(join(config.stateDir, "logs", "by-run"));
  const executor = localExecutor({
    stateDir: config.stateDir,
    env,
    runUser,
    helper: chooseHelper(config.wrapper ?? "auto", runUser),
    cgroups,
    defaultLimits: config.limits ?? {},
  });
  const signalLock = openAdvisoryLock(join(config.stateDir, "signals.lock"));
  const runs = createRuns({
    store,
    executor,
    signalLock,
    recipes,
    scripts,
    logDir: join(config.stateDir, "logs"),
    killLeftBehind: config.killLeftBehind ?? false,
    self: identify(process.pid)!,
    isAgentAlive: isAlive,
    maxRunning: config.maxRunning,
    maxLogBytes: config.maxLogBytes,
    stopAtLogLimit: config.logLimitAction === "stop",
    keepRunsDays: config.keepRunsDays,
    maxLogsBytes: config.maxLogsBytes,
    logIndex,
    onPruned: ({ runId, keyName }) =>
      audit.record({ event: "prune", outcome: "forgotten", run_id: runId, key_name: keyName }),
    checkCallbackUrl: callbacks.rules.check,
    now,
    clock,
  });
  // Now, and not when the first client asks: the operator who starts the agent should learn of a broken file.
  await recipes.current();
  const interrupted = store.unsettled().filter((run) => run.status === "launching");
  const rounds = startRounds({
    supervise: runs.supervise,
    forgetDue: runs.forgetDue,
    callBack: callbacks.startDue,
    audit,
    store,
    log,
  });
  await rounds.first;
  const sweeps = sweepCgroups(executor, store, log);
  executor.warmUp();
  for (const { runId, keyName } of interrupted) {
    const outcome = store.get(runId)?.status ?? "forgotten";
    if (outcome === "launching") continue;
    audit.record({ event: "taken_up", outcome, run_id: runId, key_name: keyName });
  }
  return {
    operations: auditOperations(
      indexLogs(
        createOperations({
          runs,
          recipes,
          scripts,
          auditProblem: audit.problem,
          stateProblem: runs.stateProblem,
        }),
        logIndex,
      ),
      audit.record,
    ),
    audit,
    recipesProblem: recipes.problem,
    countAlive: runs.reconcileAndCountAlive,
    stopWaiting: runs.stopWaiting,
    async close() {
      await runs.stopHolding();
      await rounds.stop();
      await sweeps.stop();
      await callbacks.close();
      await executor.close();
      signalLock.close();
      // Which may have a last line to write.
      audit.close();
      await noteHead(audit, store);
      store.close();
    },
  };
}

/** Throws ConfigError for a limit that cannot be enforced: one that is ignored would protect nothing. */
function openCgroups({ cgroup = "off", limits = {} }: AgentConfig): CgroupRoot | NoCgroup {
  const opened = openCgroupRoot(cgroup);
  const controllers = opened.path === undefined ? new Set<never>() : opened.controllers;
  const [missing] = unenforceable(limits, controllers);
  if (missing) {
    throw new ConfigError(
      `${missing.setting}: cannot be enforced, because ${opened.why}. Remove it, or see docs/deploy.md, A cgroup for each run`,
    );
  }
  return opened;
}

/** Removes, now and from time to time, the cgroups of runs that have ended, as soon as nothing is alive in them. */
function sweepCgroups(executor: Executor, store: RunStore, log: Log) {
  const endOf = (runId: string) => {
    const run = store.get(runId);
    return run?.endedAt === undefined ? undefined : { kill: run.killLeftBehind ?? false };
  };
  return repeat(
    (error) => log({ level: "error", event: "cgroup_sweep_failed", error: String(error) }),
    async () => executor.sweep(endOf),
    SWEEP_INTERVAL_MS,
  );
}

interface Rounds {
  supervise(): Promise<void>;
  forgetDue(signal: AbortSignal): Promise<void>;
  callBack(): void;
  audit: AuditLog;
  store: RunStore;
  log: Log;
}

/**
 * What the agent does again and again. Three rounds: receivers of callbacks may be slow, and there may be very many runs to
 * forget; supervision must wait for neither.
 */
function startRounds({ supervise, forgetDue, callBack, audit, store, log }: Rounds) {
  const failed = (event: string) => (error: unknown) => log({ level: "error", event, error: String(error) });
  const superviseAndCount = async (): Promise<void> => {
    try {
      await supervise();
    } finally {
      audit.countRefusals();
      store.refillReserve();
      await noteHead(audit, store);
    }
  };
  const supervision = repeat(failed("supervise_failed"), superviseAndCount, SUPERVISE_INTERVAL_MS);
  const stopping = new AbortController();
  const others = supervision.first.then(() => [
    repeat(failed("callbacks_failed"), callBack, CALLBACK_INTERVAL_MS),
    repeat(failed("prune_failed"), () => forgetDue(stopping.signal), PRUNE_INTERVAL_MS),
  ]);
  return {
    /** Resolves after the first look at every run. */
    first: supervision.first,
    async stop(): Promise<void> {
      stopping.abort();
      const stopOthers = others.then((rounds) => Promise.all(rounds.map((round) => round.stop())));
      await Promise.all([supervision.stop(), stopOthers]);
    },
  };
}

/**
 * Notes the last line, so that lines that are cut off the end of the audit log are missed. The line is on the disk first:
 * a loss of power would look like a cut.
 */
async function noteHead(audit: AuditLog, store: RunStore): Promise<void> {
  const head = audit.head();
  if (head.seq <= (store.auditHead()?.seq ?? 0)) return;
  await audit.sync();
  store.setAuditHead(head);
}

function openAudit(
  { auditFile, stateDir }: AgentConfig,
  store: RunStore,
  log: Log,
  now: () => number,
): AuditLog {
  try {
    return openAuditLog(auditFile ?? join(stateDir, "audit.log"), {
      now,
      log,
      knownHead: store.auditHead(),
      exclusively: store.inOneWrite,
    });
  } catch (error) {
    store.close();
    throw new ConfigError(`HUB_AUDIT_FILE: the audit log cannot be used: ${(error as Error).message}`);
  }
}

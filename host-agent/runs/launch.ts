import {
  IDEMPOTENCY_TTL_SECONDS,
  type LaunchAnswer,
  type LaunchOrder,
  type PreviewOrder,
} from "../protocol/launch.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { Reach } from "../protocol/reach.ts";
import type { Run } from "../store/run.ts";
import { sleep } from "../system/sleep.ts";
import { ageOf } from "./age.ts";
import { createLaunchQueue, type LaunchQueue } from "./launch-queue.ts";
import { createAdmission } from "./admission.ts";
import { isInReach } from "./find.ts";
import { type PlanDeps, planLaunch, refuseUnreached } from "./launch-plan.ts";
import { previewLaunch } from "./preview.ts";
import { publicRun } from "./record.ts";
import { createLaunchRecorder, type RecordDeps } from "./record-launch.ts";
import { createStarts, type StartDeps } from "./start.ts";

export interface LaunchDeps extends PlanDeps, RecordDeps, StartDeps {
  /** At most this many runs on the host at once. */
  maxRunning: number;
  /** Where launches wait for their turn. */
  launchQueue?: LaunchQueue;
}

/** What launches have to know of the runs that exist. */
interface KnownRuns {
  /** The run as it is now. */
  reconcile(run: Run): Promise<Run>;
  /** Looks at all that may be alive. */
  reconcileAlive(): Promise<void>;
}

/** For how long a launch waits for another agent that is launching the same token. */
const FOREIGN_LAUNCH_LOOKS = 200;
const FOREIGN_LAUNCH_INTERVAL_MS = 50;

/** Launches runs, at most once for each token. */
export function createLaunches(deps: LaunchDeps, { reconcile, reconcileAlive }: KnownRuns) {
  const { store, clock, self, launchQueue = createLaunchQueue() } = deps;
  const inForce = (holder: Run): boolean =>
    ageOf(holder, { now: clock(), bootId: self.bootId }) <= IDEMPOTENCY_TTL_SECONDS * 1000;
  const admission = createAdmission(store, deps.maxRunning);
  const starts = createStarts(deps, reconcile);
  const recordLaunch = createLaunchRecorder(deps, { admission, inForce, begin: starts.begin });

  async function launch(order: LaunchOrder, signal?: AbortSignal, reach?: Reach): Promise<LaunchAnswer> {
    const known = knownRunOf(order);
    if (known) return replay(known, order, signal, reach);
    const text = order.launch_token.length + JSON.stringify(order.spec).length;
    const place = { keyName: order.key_name, text, signal };
    const begun = await launchQueue.inTurn(place, async () => begin(order, reach));
    return "replayOf" in begun ? replay(begun.replayOf, order, signal, reach) : begun;
  }

  /** The run that the order's token names. */
  function knownRunOf(order: LaunchOrder): Run | undefined {
    const known = store.findByToken(order.launch_token);
    return known && inForce(known) ? known : undefined;
  }

  /** The launch, once it has its turn. A replay waits for another launch, and so is left to be made outside of it. */
  async function begin(order: LaunchOrder, reach?: Reach): Promise<LaunchAnswer | { replayOf: Run }> {
    // A retry may have waited behind the request that it repeats.
    const known = knownRunOf(order);
    if (known) return { replayOf: known };
    const plan = await planLaunch(order, deps, reach);
    // Some may have ended since anybody looked: only runs that are alive count.
    if (admission.limitReached(plan) !== undefined) await reconcileAlive();
    const recorded = await recordLaunch({ order, plan });
    if (recorded instanceof ApiProblem) throw recorded;
    if (!recorded.started) return { replayOf: recorded.run };
    return { run: publicRun(await recorded.started), replayed: false };
  }

  async function replay(
    run: Run,
    order: LaunchOrder,
    signal?: AbortSignal,
    reach?: Reach,
  ): Promise<LaunchAnswer> {
    const isReached = isInReach(reach, run);
    if (run.fingerprint !== order.fingerprint) throw tokenReused(isReached ? run : undefined);
    // It was in reach when it was launched, and is not now.
    if (!isReached) refuseUnreached(order);
    const current = await launched(run);
    // A launch that failed has freed its token: this is a new one.
    if (current.launchToken !== order.launch_token) return launch(order, signal, reach);
    return { run: publicRun(current), replayed: true };
  }

  /** The run once its launch is over, whichever agent launches it. Rejects as the launch does. */
  async function launched(run: Run): Promise<Run> {
    await starts.of(run.runId);
    let current = await reconcile(run);
    for (let looks = 0; current.status === "launching" && looks < FOREIGN_LAUNCH_LOOKS; looks++) {
      await sleep(FOREIGN_LAUNCH_INTERVAL_MS);
      current = await reconcile(run);
    }
    return current;
  }

  return {
    launch,
    /** Refuses the launches that wait for their turn. */
    stopWaiting: launchQueue.stop,
    preview: (order: PreviewOrder, reach?: Reach) =>
      previewLaunch(order, { ...deps, admission, reconcileAlive }, reach),
    isUnderWay: starts.isUnderWay,
    over: starts.over,
  };
}

/** `run` is the one that the earlier request started; undefined when the caller may not know of it. */
function tokenReused(run: Run | undefined): ApiProblem {
  const started = run === undefined ? "" : `, which started ${run.runId}`;
  return new ApiProblem(
    "idempotency_key_reused",
    `The Idempotency-Key was used within the last hour for another request${started}; use a new key`,
  );
}

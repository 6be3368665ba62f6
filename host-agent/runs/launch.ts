import {
  IDEMPOTENCY_TTL_SECONDS,
  type LaunchAnswer,
  type LaunchOrder,
  type PreviewOrder,
} from "../protocol/launch.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { Run } from "../store/run.ts";
import { sleep } from "../system/sleep.ts";
import { ageOf } from "./age.ts";
import { createAdmission } from "./admission.ts";
import { type PlanDeps, planLaunch } from "./launch-plan.ts";
import { previewLaunch } from "./preview.ts";
import { publicRun } from "./record.ts";
import { createLaunchRecorder, type RecordDeps } from "./record-launch.ts";
import { createStarts, type StartDeps } from "./start.ts";

export interface LaunchDeps extends PlanDeps, RecordDeps, StartDeps {
  /** At most this many runs on the host at once. */
  maxRunning: number;
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
  const { store, clock, self } = deps;
  const inForce = (holder: Run): boolean =>
    ageOf(holder, { now: clock(), bootId: self.bootId }) <= IDEMPOTENCY_TTL_SECONDS * 1000;
  const admission = createAdmission(store, deps.maxRunning);
  const starts = createStarts(deps, reconcile);
  const recordLaunch = createLaunchRecorder(deps, { admission, inForce, begin: starts.begin });

  async function launch(order: LaunchOrder): Promise<LaunchAnswer> {
    const known = store.findByToken(order.launch_token);
    if (known && inForce(known)) return replay(known, order);
    const plan = await planLaunch(order, deps);
    // Some may have ended since anybody looked: only runs that are alive count.
    if (admission.limitReached(plan) !== undefined) await reconcileAlive();
    const recorded = await recordLaunch({ order, plan });
    if (recorded instanceof ApiProblem) throw recorded;
    if (!recorded.started) return replay(recorded.run, order);
    return { run: publicRun(await recorded.started), replayed: false };
  }

  async function replay(run: Run, order: LaunchOrder): Promise<LaunchAnswer> {
    if (run.fingerprint !== order.fingerprint) throw tokenReused(run);
    const current = await launched(run);
    // A launch that failed has freed its token: this is a new one.
    if (current.launchToken !== order.launch_token) return launch(order);
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
    preview: (order: PreviewOrder) => previewLaunch(order, { ...deps, admission, reconcileAlive }),
    isUnderWay: starts.isUnderWay,
    over: starts.over,
  };
}

function tokenReused({ runId }: Run): ApiProblem {
  return new ApiProblem(
    "idempotency_key_reused",
    `The Idempotency-Key was used within the last hour for another request, which started ${runId}; use a new key`,
  );
}

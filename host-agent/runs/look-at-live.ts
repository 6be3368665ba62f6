import type { Run } from "../store/run.ts";
import type { RunPage } from "../store/run-queries.ts";
import type { RunStore } from "../store/run-store.ts";
import { createSlices } from "../system/slices.ts";
import type { Reconcile, Reconciled } from "./reconcile.ts";

/** This number of runs is looked at in one go, and written in one transaction. */
const LOOKED_AT_ONCE = 50;

/** Looks at these runs as `reconcileAll` does, in parts, and lets others work in between. */
export async function lookInParts(
  known: readonly Run[],
  reconcileAll: Reconcile["reconcileAll"],
  sliceMs?: number,
): Promise<Reconciled> {
  const pause = createSlices(sliceMs);
  const whole: Reconciled = { runs: [], failures: [], unsure: new Set() };
  for (let at = 0; at < known.length; at += LOOKED_AT_ONCE) {
    const { runs, failures, unsure } = await reconcileAll(known.slice(at, at + LOOKED_AT_ONCE));
    whole.runs.push(...runs);
    whole.failures.push(...failures);
    for (const runId of unsure) whole.unsure.add(runId);
    await pause();
  }
  return whole;
}

/**
 * Looks at every run that may be alive, in parts, and lets others work in between. One pass at a time: callers that come
 * during one share the next, which begins later than each of their calls. Resolves with the failures.
 */
export function createLookAtLive(
  store: RunStore,
  reconcileAll: Reconcile["reconcileAll"],
  sliceMs?: number,
): () => Promise<unknown[]> {
  let last: Promise<unknown> = Promise.resolve();
  let next: Promise<unknown[]> | undefined;

  async function pass(): Promise<unknown[]> {
    const failures: unknown[] = [];
    const pause = createSlices(sliceMs);
    for (let seq: number | undefined = 0; seq !== undefined; await pause()) {
      const page: RunPage = store.aliveAfter(seq, LOOKED_AT_ONCE);
      if (page.runs.length > 0) failures.push(...(await reconcileAll(page.runs)).failures);
      seq = page.next;
    }
    return failures;
  }

  return () => {
    next ??= last.then(() => {
      next = undefined;
      const made = pass();
      last = made.catch(() => undefined);
      return made;
    });
    return next;
  };
}

import { setImmediate as nextTurn } from "node:timers/promises";

import { createWalkMemory, type ProcessList, type Tree, walkProcesses } from "./process-tree.ts";

/** A walk works for so long, and then lets others work for a turn of the event loop. */
const SLICE_MS = 2;

/** Walks over the processes of the host, shared by all callers. */
export interface ProcessPasses {
  /** The processes as a walk finds them that begins after the call, and answers questions about `trees`. Rejects when something cannot be looked at now. */
  take(trees: readonly Tree[]): Promise<ProcessList>;
}

/**
 * One walk at a time, in slices: a walk over a busy host takes longer than a request may wait. Callers that come while one
 * is under way share the next, which begins later than each of these calls. Processes that were once found to belong to a run
 * still do.
 */
export function processPasses(sliceMs = SLICE_MS): ProcessPasses {
  const memory = createWalkMemory();
  let last: Promise<unknown> = Promise.resolve();
  let next: { trees: Tree[]; list: Promise<ProcessList> } | undefined;

  function begin(): { trees: Tree[]; list: Promise<ProcessList> } {
    const trees: Tree[] = [];
    const list = last.then(async () => {
      next = undefined;
      return inSlices(walkProcesses(trees, memory), sliceMs);
    });
    last = list.catch(() => undefined);
    return { trees, list };
  }

  return {
    take(trees) {
      next ??= begin();
      next.trees.push(...trees);
      return next.list;
    },
  };
}

async function inSlices<T>(work: Generator<void, T>, sliceMs: number): Promise<T> {
  for (let until = performance.now() + sliceMs; ;) {
    const { done, value } = work.next();
    if (done) return value;
    if (performance.now() < until) continue;
    await nextTurn();
    until = performance.now() + sliceMs;
  }
}

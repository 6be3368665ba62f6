import type { Handle } from "../executor/executor.ts";
import type { Run } from "../store/run.ts";

/** What the executor finds a run by. */
export function handleOf({ runId, process, launcher, cgroup }: Run): Handle {
  return { runId, process, launchedIn: launcher.bootId, cgroup };
}

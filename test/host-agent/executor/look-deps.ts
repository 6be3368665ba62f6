import type { LookDeps } from "../../../host-agent/executor/look.ts";
import { processPasses } from "../../../host-agent/executor/process-passes.ts";
import { createPatience } from "../../../host-agent/system/patience.ts";

const FIVE_MINUTES_MS = 300_000;

/** What an agent that runs its jobs as its own user looks at runs with. */
export function lookDeps(stateDir: string): LookDeps {
  return {
    stateDir,
    passes: processPasses(),
    patience: createPatience(FIVE_MINUTES_MS),
    ownerOf: () => undefined,
  };
}

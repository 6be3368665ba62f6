import type { Executor, Signal } from "../executor/executor.ts";
import type { AdvisoryLock } from "../store/advisory-lock.ts";
import type { Run, Stop } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import { handleOf } from "./handle.ts";
import { isDue, nextStop, type StopDecision, type StopEvent } from "./next-stop.ts";

export interface StopDeps {
  store: RunStore;
  executor: Executor;
  /** Held while a signal is sent and recorded: of several agents on one state folder one sends it. */
  signalLock: AdvisoryLock;
}

export type CarryOut = (known: Run, event: StopEvent) => Promise<{ run: Run; decision: StopDecision }>;

/**
 * Carries out what `nextStop` decides. A stop is recorded before its signal is sent, so that after a crash in between the
 * signal is sent again and not forgotten. Of kills that come at the same time, to one agent or to several on one
 * state folder, the first is recorded and sent. Returns the run as it is then, and the decision; of `force` the
 * caller kills what is left.
 */
export function createStops({ store, executor, signalLock }: StopDeps): CarryOut {
  /** Sends the signal of the recorded stop, unless an agent has by now, and records that it was sent. */
  async function send(known: Run): Promise<Run> {
    return signalLock.hold(async () => {
      let run = store.get(known.runId) ?? known;
      if (run.endedAt !== undefined || !run.stop || !isDue(run.stop)) return run;
      const { stop } = run;
      const reached = await executor.signal(handleOf(run), stop.signal as Signal);
      if (reached === "gone") return run;
      // What others may change meanwhile is only the deadline, or that the run has ended.
      for (;;) {
        const recorded = recordSent(run, run.stop ?? stop, reached === "refused");
        if (recorded) return recorded;
        run = store.get(run.runId) ?? run;
        // A kill that was ordered meanwhile has its own signal, which waits for this lock.
        const isSame = run.stop?.cause === stop.cause && run.stop.signal === stop.signal;
        if (run.endedAt !== undefined || !isSame) return run;
      }
    });
  }

  function recordSent(run: Run, stop: Stop, isRefused: boolean): Run | undefined {
    const statusReason = `${senderOf(stop)} sent ${stop.signal}; ${isRefused ? REFUSED : STILL_ENDING}.`;
    const status = stop.cause === "kill" ? ("killed" as const) : run.status;
    return store.change(run, { stop: { ...stop, sent: true }, status, statusReason });
  }

  return async (known, event) => {
    for (let run = known; ;) {
      const decision = nextStop(run, event);
      if (decision.do === "nothing" || decision.do === "refuse") return { run, decision };
      if (decision.do === "send") return { run: await send(run), decision };
      const changed = store.change(run, { stop: decision.stop });
      if (changed) return { run: decision.do === "record" ? await send(changed) : changed, decision };
      const current = store.get(run.runId);
      if (!current) return { run, decision: { do: "nothing" } };
      run = current;
    }
  };
}

const REFUSED =
  "at least one of its processes belongs to another user, whom the host-agent may not signal, and goes on";
const STILL_ENDING = "not all of its processes have ended yet";

function senderOf({ cause, keyName }: Stop): string {
  if (cause === "kill") return `/kill by ${keyName}`;
  return cause === "timeout"
    ? "Over its time limit: the host-agent"
    : "Over the limit of its log: the host-agent";
}

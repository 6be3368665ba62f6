import { useEffect, useRef, useState } from "preact/hooks";

import { MAX_GRACE_SECONDS, SIGNALS } from "../../host-agent/protocol/limits.ts";
import type { RunRecord, Signal } from "../../host-agent/protocol/run.ts";
import type { Api } from "./api.ts";
import { runDuration } from "../client/units.ts";
import { nameOf } from "./format.ts";
import { useNow } from "./hooks.ts";
import { Failure } from "./notice.tsx";
import { spelledOut } from "./visible-text.ts";

interface KillDialogProps {
  api: Api;
  run: RunRecord;
  onClose(): void;
  onKilled(run: RunRecord): void;
}

const EFFECTS: Record<Signal, string> = {
  SIGTERM: "asks the processes to stop",
  SIGINT: "like Ctrl-C",
  SIGKILL: "ends them at once, without clean-up",
};

/** Asks for a confirmation that names the run, then stops it. */
export function KillDialog({ api, run, onClose, onKilled }: KillDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const now = useNow();
  const [signal, setSignal] = useState<Signal>("SIGTERM");
  const [grace, setGrace] = useState("10");
  const [isSending, setSending] = useState(false);
  const [error, setError] = useState<Error>();
  useEffect(() => dialog.current!.showModal(), []);

  const kill = async (event: SubmitEvent) => {
    event.preventDefault();
    setSending(true);
    setError(undefined);
    try {
      const withGrace = signal !== "SIGKILL" && grace.trim() !== "";
      onKilled(
        await api.killRun(run, {
          signal,
          ...(withGrace && { grace_seconds: Number(grace) }),
        }),
      );
    } catch (failure) {
      setError(failure as Error);
      setSending(false);
    }
  };

  return (
    <dialog ref={dialog} onClose={onClose} aria-labelledby="kill-title">
      <form onSubmit={kill}>
        <h2 id="kill-title">
          Kill <bdi>{spelledOut(nameOf(run))}</bdi>?
        </h2>
        <p>
          <code>{run.run_id}</code>, launched by <bdi>{spelledOut(run.key_name)}</bdi>, has been running for{" "}
          {runDuration(run, now)}. All its processes are stopped. A killed run cannot be continued.
        </p>
        <div class="fields">
          <label>
            Signal
            <select value={signal} onChange={({ currentTarget }) => setSignal(currentTarget.value as Signal)}>
              {SIGNALS.map((one) => (
                <option key={one} value={one}>
                  {one}: {EFFECTS[one]}
                </option>
              ))}
            </select>
          </label>
          {signal !== "SIGKILL" && (
            <label>
              Send SIGKILL after (seconds; empty: never)
              <input
                type="number"
                min="0"
                max={MAX_GRACE_SECONDS}
                value={grace}
                onInput={({ currentTarget }) => setGrace(currentTarget.value)}
              />
            </label>
          )}
        </div>
        {error && <Failure error={error} />}
        <div class="actions">
          <button type="button" onClick={() => dialog.current!.close()} autofocus>
            Keep it running
          </button>
          <button type="submit" class="danger" disabled={isSending}>
            Kill {run.run_id}
          </button>
        </div>
      </form>
    </dialog>
  );
}

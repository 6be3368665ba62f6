import { connection } from "./api.ts";
import { useStore } from "./store.ts";

/** Shown while requests fail: what cannot be reached, what that means and what to do. */
export function ConnectionBar({ onRetry }: { onRetry(): void }) {
  const state = useStore(connection);
  return (
    <div class="connection" role="status">
      {state.is !== "fine" && (
        <p>
          {state.is === "hub-away" ? (
            <>
              <strong>The Hub does not answer.</strong> This page may be out of date; runs continue. Retrying
              …
            </>
          ) : (
            <>
              <strong>{state.title}</strong> {state.detail}. Runs continue. Retrying …
            </>
          )}
          <button type="button" onClick={onRetry}>
            Retry now
          </button>
        </p>
      )}
    </div>
  );
}

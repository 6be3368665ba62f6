import { connection } from "./api.ts";
import { useStore } from "./store.ts";

/** Shown while requests fail: what is away, what that means, what to do. */
export function ConnectionBar({ onRetry }: { onRetry(): void }) {
  const state = useStore(connection);
  return (
    <div class="connection" role="status">
      {state.is !== "fine" && (
        <p>
          {state.is === "hub-away" ? (
            <>
              <strong>The Hub does not answer.</strong> What you see may be old; runs go on without it. Trying
              again …
            </>
          ) : (
            <>
              <strong>The host cannot be reached.</strong> {state.detail} Runs go on meanwhile. Trying again …
            </>
          )}
          <button type="button" onClick={onRetry}>
            Try now
          </button>
        </p>
      )}
    </div>
  );
}

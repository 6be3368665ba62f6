import { connection } from "./api.ts";
import { useStore } from "./store.ts";
import { spelledOut } from "./visible-text.ts";

/** Shown while requests fail: what cannot be reached, what that means and what to do. */
export function ConnectionBar({ onRetry }: { onRetry(): void }) {
  const state = useStore(connection);
  return (
    <div class="connection" role="status">
      {state.is !== "fine" && (
        <p>
          <span>
            {state.is === "hub-away" ? (
              <>
                <strong>The Hub does not answer.</strong> This page may be out of date; runs continue.
              </>
            ) : (
              <>
                <strong>{state.title}</strong> {restOf(state)}
              </>
            )}{" "}
            Retrying …
          </span>
          <button type="button" onClick={onRetry}>
            Retry now
          </button>
        </p>
      )}
    </div>
  );
}

/** What the API's sentence adds to the title; this page tries again by itself. */
function restOf({ title, detail }: { title: string; detail: string }): string {
  const rest = `${detail}.`.replace(/ Try again\.$/, "");
  return spelledOut(rest.startsWith(title) ? rest.slice(title.length) : rest);
}

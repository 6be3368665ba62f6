import { useState } from "preact/hooks";

import { HubError, isProblem } from "../client/hub-error.ts";
import { createApi } from "./api.ts";
import { useTitle } from "./hooks.ts";
import { Failure } from "./notice.tsx";

/** Asks for an API key and checks it. `refused` is the reason why the Hub did not accept the last one. */
export function KeyForm({ refused, onKey }: { refused: string | undefined; onKey(key: string): void }) {
  const [error, setError] = useState<Error>();
  const [isTrying, setTrying] = useState(false);
  useTitle("Sign in");

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const field = (event.currentTarget as HTMLFormElement).elements.namedItem("key") as HTMLInputElement;
    const key = field.value.trim();
    setTrying(true);
    setError(undefined);
    try {
      await tryKey(key);
      onKey(key);
    } catch (failure) {
      setError(failure as Error);
      setTrying(false);
      field.select();
    }
  };

  const refusal = error instanceof HubError && error.status === 401 ? error.message : refused;
  return (
    <form class="key-form" onSubmit={submit}>
      <h1>Open the console</h1>
      {refusal !== undefined && (
        <p class="field-error" role="alert" id="key-error">
          {refusal}
        </p>
      )}
      <label for="key">API key</label>
      <input
        id="key"
        name="key"
        type="password"
        required
        autofocus
        autocomplete="off"
        spellcheck={false}
        placeholder="sk_live_…"
        aria-describedby={`key-note${refusal === undefined ? "" : " key-error"}`}
      />
      <button type="submit" class="primary" disabled={isTrying}>
        {isTrying ? "Checking the key …" : "Open"}
      </button>
      <p id="key-note" class="note">
        The key stays in this tab and is removed when you close it. The operator of the Hub creates one with{" "}
        <code>npm run keys -- create</code>.
      </p>
      {error && refusal === undefined && <Failure error={error} />}
    </form>
  );
}

/** A key without a scope is valid; the pages report what it does not allow. */
async function tryKey(key: string): Promise<void> {
  if (!/^[\x21-\x7e]{1,512}$/.test(key)) {
    throw new HubError("This is not an API key: it contains spaces or unusual characters. Copy it again", {
      kind: "refused",
      status: 401,
    });
  }
  await createApi(key, () => {})
    .listRuns("pipeline", { limit: 1 })
    .catch((error: unknown) => {
      if (!isProblem(error, "insufficient_scope")) throw error;
    });
}

import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";

import type { Source } from "../../host-agent/protocol/schemas.ts";
import { type Api, ApiError } from "./api.ts";
import { go, href } from "./location.ts";
import { Failure } from "./notice.tsx";
import type { RunsFeed } from "./runs-feed.ts";

interface LaunchFormProps {
  api: Api;
  feed: RunsFeed;
  source: Source;
  /** What names the recipe or script in the request. */
  target: { recipe_id: string } | { path: string };
  /** What the arguments mean, when the operator says so. */
  argsHelp?: string | undefined;
  /** The target's default. */
  terminal?: boolean;
  /** Further fields, for what the target alone has. */
  children?: ComponentChildren;
}

/**
 * Launches a recipe or a script. One form makes one run: until the launch has
 * succeeded or a field has changed, every attempt carries the same Idempotency-Key.
 */
export function LaunchForm({ api, feed, source, target, argsHelp, terminal, children }: LaunchFormProps) {
  const [args, setArgs] = useState("");
  const [isTerminal, setTerminal] = useState(terminal ?? false);
  const [isSending, setSending] = useState(false);
  const [error, setError] = useState<Error>();
  const idempotencyKey = useRef<string | undefined>(undefined);

  const change = (set: () => void) => {
    idempotencyKey.current = undefined;
    setError(undefined);
    set();
  };
  const launch = async (event: SubmitEvent) => {
    event.preventDefault();
    setSending(true);
    setError(undefined);
    idempotencyKey.current ??= randomKey();
    try {
      const spec = { ...target, args, ...(isTerminal !== (terminal ?? false) && { terminal: isTerminal }) };
      const run = await api.launch(source, spec, idempotencyKey.current);
      idempotencyKey.current = undefined;
      feed.add(run);
      go(href(["runs", run.run_id]));
    } catch (failure) {
      setError(failure as Error);
    } finally {
      setSending(false);
    }
  };

  const argsError = error instanceof ApiError && error.message.includes("body.args");
  return (
    <form class="launch-form" onSubmit={launch}>
      <label for="args">Arguments</label>
      <input
        id="args"
        class="mono"
        value={args}
        spellcheck={false}
        autocomplete="off"
        placeholder="--limit 5000 --name 'two words'"
        aria-describedby="args-help"
        aria-invalid={argsError}
        onInput={({ currentTarget }) => change(() => setArgs(currentTarget.value))}
      />
      <p id="args-help" class="note">
        {argsHelp !== undefined && <span class="args-help">{argsHelp}</span>}
        Split into words as a shell would, quotes included, and never evaluated: <code>;</code> <code>|</code>{" "}
        <code>$</code> <code>*</code> are ordinary characters.
      </p>
      {children}
      <label class="check">
        <input
          type="checkbox"
          checked={isTerminal}
          onChange={({ currentTarget }) => change(() => setTerminal(currentTarget.checked))}
        />
        In a terminal: lines appear at once, programs may use colours
      </label>
      {error && <Failure error={error} />}
      <div class="actions">
        <button type="submit" class="primary" disabled={isSending}>
          {isSending ? "Launching …" : error ? "Try again, still one run" : "Launch"}
        </button>
      </div>
    </form>
  );
}

/** crypto.randomUUID is missing where the page is not served over TLS. */
function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

import { useEffect, useRef, useState } from "preact/hooks";

import type { LaunchPreview } from "../../host-agent/protocol/launch.ts";
import type { Param } from "../../host-agent/protocol/recipe.ts";
import type { Source } from "../../host-agent/protocol/run.ts";
import { HubError } from "../client/hub-error.ts";
import { type Api, useMayWrite } from "./api.ts";
import { Field } from "./field.tsx";
import { Preview } from "./launch-preview.tsx";
import { go, href } from "./location.ts";
import { Failure } from "./notice.tsx";
import { ParamFields, paramValues, type TypedParams } from "./param-fields.tsx";
import type { RunsFeed } from "./runs-feed.ts";
import { spelledOut } from "./visible-text.ts";

interface LaunchFormProps {
  api: Api;
  feed: RunsFeed;
  source: Source;
  /** The recipe or script, as the request names it. */
  target: { recipe_id: string } | { path: string };
  /** The operator's description of the arguments. */
  argsHelp?: string | null;
  /** The target's default. */
  terminal?: boolean;
  params?: readonly Param[];
}

const NO_PARAMS: readonly Param[] = [];

/**
 * Launches a recipe or a script, or shows what a launch would start. One form makes one run: after an attempt that may
 * have started it, every attempt sends the same Idempotency-Key until the launch has succeeded or a field has changed.
 */
export function LaunchForm(props: LaunchFormProps) {
  const { api, feed, source, target, argsHelp, terminal = false, params = NO_PARAMS } = props;
  const [args, setArgs] = useState("");
  const [label, setLabel] = useState("");
  const [typed, setTyped] = useState<TypedParams>(new Map());
  const [isTerminal, setTerminal] = useState(terminal);
  const [sending, setSending] = useState<"launch" | "preview">();
  const [error, setError] = useState<Error>();
  const [preview, setPreview] = useState<LaunchPreview>();
  const idempotencyKey = useRef<string | undefined>(undefined);
  /** An attempt with the present key may have started the run. */
  const isOpen = useRef(false);
  const mayLaunch = useMayWrite(source);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (!error) return;
    const fault = form.current!.querySelector<HTMLElement>("[aria-invalid=true]");
    const notice = form.current!.querySelector<HTMLElement>(".notice");
    notice?.scrollIntoView({ block: "nearest" });
    (fault ?? notice)?.focus();
  }, [error]);

  const forget = () => {
    setError(undefined);
    setPreview(undefined);
  };
  const change = (set: () => void) => {
    idempotencyKey.current = undefined;
    isOpen.current = false;
    forget();
    set();
  };
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (sending || !mayLaunch) return;
    const isDry = (event.submitter as HTMLButtonElement | null)?.value === "preview";
    setSending(isDry ? "preview" : "launch");
    forget();
    const values = paramValues(params, typed);
    const order = {
      ...target,
      args,
      ...(Object.keys(values).length > 0 && { params: values }),
      ...(label.trim() !== "" && { label: label.trim() }),
      ...(isTerminal !== terminal && { terminal: isTerminal }),
    };
    try {
      if (isDry) return setPreview(await api.previewLaunch(source, order));
      idempotencyKey.current ??= randomKey();
      const { run } = await api.launch(source, order, idempotencyKey.current);
      idempotencyKey.current = undefined;
      feed.add(run);
      go(href(["runs", run.run_id]));
    } catch (failure) {
      const mayHaveStarted = !(failure instanceof HubError) || failure.mayHaveActed;
      if (!isDry && mayHaveStarted) isOpen.current = true;
      // Nothing was started with this key: the next attempt is another launch.
      if (!isOpen.current) idempotencyKey.current = undefined;
      setError(failure as Error);
    } finally {
      setSending(undefined);
    }
  };

  const faultOf = (path: string) =>
    error instanceof HubError ? error.facts.errors?.find((one) => one.path === path)?.message : undefined;
  const launchText = isOpen.current ? "Retry (starts at most one run)" : "Launch";
  return (
    <form ref={form} class="launch-form" onSubmit={submit}>
      <ParamFields
        params={params}
        typed={typed}
        faultOf={faultOf}
        onChange={(name, value) => change(() => setTyped(new Map([...typed, [name, value]])))}
      />
      <Field
        id="args"
        label="Arguments"
        fault={faultOf("body.args")}
        help={
          <>
            {argsHelp && <span class="args-help">{spelledOut(argsHelp)}</span>}
            Optional, for example <code>--limit 5000 --name 'two words'</code>. Split into words as a shell
            does, with quotes, but never evaluated: <code>;</code> <code>|</code> <code>$</code>{" "}
            <code>*</code> are ordinary characters.
          </>
        }
        control={(attributes) => (
          <input
            {...attributes}
            class="mono"
            value={args}
            spellcheck={false}
            autocomplete="off"
            onInput={({ currentTarget }) => change(() => setArgs(currentTarget.value))}
          />
        )}
      />
      <Field
        id="label"
        label="Label"
        fault={faultOf("body.label")}
        help="Optional: any text, to find the run by."
        control={(attributes) => (
          <input
            {...attributes}
            value={label}
            autocomplete="off"
            onInput={({ currentTarget }) => change(() => setLabel(currentTarget.value))}
          />
        )}
      />
      <label class="check">
        <input
          type="checkbox"
          checked={isTerminal}
          onChange={({ currentTarget }) => change(() => setTerminal(currentTarget.checked))}
        />
        In a terminal: lines appear at once, and programs may print colours
      </label>
      {error && <Failure error={error} />}
      {mayLaunch ? (
        <div class="actions">
          {/* `disabled` would take the focus away from the button that was pressed. */}
          <button type="submit" class="primary" aria-disabled={sending !== undefined}>
            {sending === "launch" ? "Launching …" : launchText}
          </button>
          <button type="submit" value="preview" aria-disabled={sending !== undefined}>
            Dry run
          </button>
        </div>
      ) : (
        <p class="aside">
          This key cannot launch: it does not have the scope <code>{source}s:write</code>.
        </p>
      )}
      {preview && <Preview preview={preview} />}
    </form>
  );
}

/** An Idempotency-Key. Browsers offer crypto.randomUUID over TLS only. */
function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

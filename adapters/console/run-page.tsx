import { useEffect, useRef, useState } from "preact/hooks";

import { RUN_ID, SOURCES } from "../../host-agent/protocol/limits.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { HubError } from "../client/hub-error.ts";
import { pause } from "../client/pause.ts";
import { pauseBeforePoll } from "../client/retry.ts";
import { neverStarted, usageFacts } from "../client/run-facts.ts";
import { runDuration } from "../client/units.ts";
import { type Api, isOutage, useMayWrite } from "./api.ts";
import { Fact } from "./fact.tsx";
import { fullTime, nameOf } from "./format.ts";
import { copyText, seen, useIsNarrow, useNow, useTitle } from "./hooks.ts";
import { KillDialog } from "./kill-dialog.tsx";
import { href } from "./location.ts";
import { LogView } from "./log-view.tsx";
import { Notice, PollFailure } from "./notice.tsx";
import type { RunsFeed } from "./runs-feed.ts";
import { StatusMark } from "./status-mark.tsx";
import { spelledOut } from "./visible-text.ts";

const POLL_MS = 2_000;

/** One run: its record, the reason for its status, its log, and a button to stop it. */
export function RunPage({ api, feed, runId }: { api: Api; feed: RunsFeed; runId: string }) {
  const { run, error, setRun, retry } = useRun(api, feed, runId);
  const [isAsking, setAsking] = useState(false);
  const isNarrow = useIsNarrow();
  const mayKill = useMayWrite(run?.source ?? "pipeline");
  useTitle(run ? `${run.status}: ${nameOf(run)}` : "Run");

  if (!RUN_ID.test(runId)) {
    return (
      <main id="main" class="page" tabIndex={-1}>
        <Notice kind="problem" title="This is not a run id">
          <p>A run id looks like run_a1b2c3d4e5f6. Check the link.</p>
          <a href={href(["runs"])}>All runs</a>
        </Notice>
      </main>
    );
  }
  if (!run) {
    return (
      <main id="main" class="page" tabIndex={-1}>
        {error && <PollFailure error={error} onRetry={retry} />}
        {(!error || isOutage(error)) && <p class="loading">Reading {runId} …</p>}
        <a href={href(["runs"])}>All runs</a>
      </main>
    );
  }
  return (
    <main id="main" class="page run" tabIndex={-1}>
      <div class="run-head">
        <a class="back" href={href(["runs"])} aria-label="All runs">
          ‹ Runs
        </a>
        <h1>
          <bdi>{spelledOut(nameOf(run))}</bdi>
        </h1>
        <span role="status" aria-label="Status of the run">
          <StatusMark run={run} />
        </span>
        <span class="grow" />
        <CopyButton text={location.href} name="Copy link" />
        {run.ended_at === null && mayKill && (
          <button type="button" class="danger" onClick={() => setAsking(true)}>
            Kill …
          </button>
        )}
      </div>
      <p class="reason">{spelledOut(run.status_reason)}</p>
      {error && <PollFailure error={error} onRetry={retry} />}
      <details class="facts-box" open={!isNarrow}>
        <summary>Details</summary>
        <Facts run={run} />
      </details>
      <LogView api={api} run={run} />
      {isAsking && (
        <KillDialog
          api={api}
          run={run}
          onClose={() => setAsking(false)}
          onKilled={(killed) => {
            setRun(killed);
            setAsking(false);
          }}
        />
      )}
    </main>
  );
}

function Facts({ run }: { run: RunRecord }) {
  const now = useNow();
  const noCode = neverStarted(run) ? "none" : "unknown";
  const exit = run.exit_code === null ? noCode : String(run.exit_code);
  return (
    <dl class="facts">
      <Fact name="Command" width="full">
        <code>{spelledOut(run.cmd)}</code>
      </Fact>
      {run.label !== null && (
        <Fact name="Label" width="full">
          <bdi>{spelledOut(run.label)}</bdi>
        </Fact>
      )}
      <Fact name="Started">{fullTime(run.started_at)}</Fact>
      <Fact name={run.ended_at === null ? "Running for" : "Duration"}>{runDuration(run, now)}</Fact>
      <Fact name="Ended">{run.ended_at === null ? "not yet" : fullTime(run.ended_at)}</Fact>
      <Fact name="Exit code">
        {run.ended_at === null ? "–" : exit}
        {run.signal !== null && ` (${run.signal})`}
      </Fact>
      {usageFacts(run).map(([name, value]) => (
        <Fact key={name} name={name}>
          {value}
        </Fact>
      ))}
      <Fact name="Launched by">
        <bdi>{spelledOut(run.key_name)}</bdi>
      </Fact>
      <Fact name="Surface">{run.source}</Fact>
      <Fact name="Process id">{run.pid ?? "none"}</Fact>
      <Fact name="Run id">
        <code>{run.run_id}</code>
      </Fact>
      {"path" in run.spec && (
        <Fact name="Script" width="half">
          <a href={href(["scripts", run.spec.path])}>
            <code>{spelledOut(run.spec.path)}</code>
          </a>
        </Fact>
      )}
      {run.spec_sha256 !== null && (
        <Fact name="SHA-256 at launch" width="half">
          <code>{run.spec_sha256}</code>
        </Fact>
      )}
      <Fact name="Log file" width="half">
        <code>{spelledOut(run.log_path)}</code>
      </Fact>
    </dl>
  );
}

/** A button that copies a text and reports it. */
function CopyButton({ text, name }: { text: string; name: string }) {
  const [result, setResult] = useState<string>();
  return (
    <button
      type="button"
      onClick={async () => {
        setResult((await copyText(text)) ? "Copied" : "The browser refused");
        setTimeout(() => setResult(undefined), 2_000);
      }}
    >
      {result ?? name}
    </button>
  );
}

/** The run's record, updated every two seconds until the run has ended. */
function useRun(api: Api, feed: RunsFeed, runId: string) {
  const known = feed.view.get().runs.find(({ run_id }) => run_id === runId);
  const [run, setRun] = useState<RunRecord | undefined>(known);
  const [error, setError] = useState<Error>();
  const [attempt, setAttempt] = useState(0);
  const latest = useRef(run);
  latest.current = run;

  const keep = (record: RunRecord) => {
    setRun(record);
    feed.add(record);
  };
  useEffect(() => {
    if (!RUN_ID.test(runId)) return undefined;
    const stop = new AbortController();
    void (async () => {
      while (!stop.signal.aborted) {
        await seen(stop.signal);
        let rest = POLL_MS;
        const source = latest.current?.source;
        try {
          const record = await (source
            ? api.getRun({ source, run_id: runId }, { signal: stop.signal })
            : findRun(api, runId));
          if (stop.signal.aborted) return;
          setError(undefined);
          keep(record);
          if (record.ended_at !== null) return;
        } catch (failure) {
          if (stop.signal.aborted) return;
          setError(failure as Error);
          rest = pauseBeforePoll(failure);
        }
        await pause(rest, stop.signal);
      }
    })();
    return () => stop.abort();
  }, [api, runId, attempt]);
  return { run, error, setRun: keep, retry: () => setAttempt((n) => n + 1) };
}

/** Asks both surfaces: a run's id does not contain its surface. */
async function findRun(api: Api, runId: string): Promise<RunRecord> {
  const answers = await Promise.allSettled(SOURCES.map((source) => api.getRun({ source, run_id: runId })));
  const found = answers.find((answer) => answer.status === "fulfilled");
  if (found) return found.value;
  const failures = answers.flatMap((answer) =>
    answer.status === "rejected" ? [answer.reason as Error] : [],
  );
  // The run is unknown only if both surfaces could be asked.
  throw failures.find((error) => !(error instanceof HubError) || error.status !== 404) ?? failures[0]!;
}

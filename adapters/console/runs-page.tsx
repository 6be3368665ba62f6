import { useEffect, useMemo, useState } from "preact/hooks";

import { SOURCES, STATUSES } from "../../host-agent/protocol/limits.ts";
import type { RunStatus } from "../../host-agent/protocol/run.ts";
import { pause } from "../client/pause.ts";
import { type Api, useMayWrite } from "./api.ts";
import { count } from "./format.ts";
import { seen, useTitle } from "./hooks.ts";
import { go, href } from "./location.ts";
import { Notice } from "./notice.tsx";
import { filterRuns, RunFilters } from "./run-filters.tsx";
import { RunTable } from "./run-table.tsx";
import { type RunsFeed, runsFeed } from "./runs-feed.ts";
import { useStore } from "./store.ts";
import { Timeline } from "./timeline.tsx";

interface RunsPageProps {
  api: Api;
  feed: RunsFeed;
  query: URLSearchParams;
}

const POLL_FILTERED_MS = 4_000;
/** A search reads older runs until it has found this many. */
const ENOUGH_FOUND = 60;

/** All runs of both surfaces, newest first, next to a timeline. */
export function RunsPage({ api, feed, query }: RunsPageProps) {
  useTitle("Runs");
  const status = STATUSES.find((one) => one === query.get("status"));
  const source = SOURCES.find((one) => one === query.get("surface"));
  const [words, setWords] = useState(query.get("q") ?? "");
  const mayLaunchRecipes = useMayWrite("pipeline");
  const mayLaunch = useMayWrite("script") || mayLaunchRecipes;
  const everything = useStore(feed.view);
  const filteredFeed = useFilteredFeed(api, feed, status);
  const view = useStore(filteredFeed.view);

  const change = (changes: Record<string, string>) => {
    const now = { status: status ?? "", surface: source ?? "", q: words, ...changes };
    go(href(["runs"], now), { replace: true });
  };
  const found = useMemo(
    () => filterRuns([view.runs, status === undefined ? [] : everything.runs], { status, source, words }),
    [view, everything, status, source, words],
  );
  const isNarrowed = status !== undefined || source !== undefined || words.trim() !== "";
  const isSearching = words.trim() !== "" || source !== undefined;
  const mustReadOn = isSearching && view.hasMore && found.length < ENOUGH_FOUND;
  useEffect(() => {
    if (mustReadOn) void filteredFeed.loadMore().catch(() => {});
  }, [mustReadOn, view]);

  const denied = Object.entries(everything.denied);
  const isBlind = denied.length === SOURCES.length;
  return (
    <main id="main" class="page runs" tabIndex={-1}>
      <div class="runs-head">
        <h1>Runs</h1>
        <RunFilters
          wanted={{ status, source, words }}
          onWords={(q) => {
            setWords(q);
            change({ q });
          }}
          onChange={change}
        />
        {mayLaunch && (
          <a class="button primary" href={href(["launch"])}>
            Launch …
          </a>
        )}
      </div>
      {!isBlind &&
        denied.map(([one, detail]) => (
          <p key={one} class="aside" role="status">
            {one === "pipeline" ? "Pipelines" : "Scripts"} are not shown: {detail}.
          </p>
        ))}
      {isBlind ? (
        <Notice kind="problem" title="This key cannot read runs">
          <p>
            It has neither the scope <code>pipelines:read</code> nor <code>scripts:read</code>. Ask the
            operator for a key with one of them, or use “Forget key” above and enter another key.
          </p>
        </Notice>
      ) : (
        <div class="runs-body">
          <section class="run-list" aria-label="List of runs">
            {found.length > 0 && (
              <RunTable
                runs={found}
                onNearEnd={() => {
                  if (view.hasMore) void filteredFeed.loadMore().catch(() => {});
                }}
              />
            )}
            {found.length === 0 && !view.isLoaded && <p class="loading">Reading the runs …</p>}
            {found.length === 0 && view.isLoaded && !mustReadOn && (
              <NoRuns isNarrowed={isNarrowed} mayLaunch={mayLaunch} />
            )}
            <p class="list-foot" role="status">
              {count(found.length, "run")}
              {mustReadOn && ` found in ${view.runs.length.toLocaleString()} so far; reading older runs …`}
              {!mustReadOn && view.hasMore && ", scroll down for older runs"}
            </p>
          </section>
          <Timeline feed={filteredFeed} wanted={{ status, source, words }} />
        </div>
      )}
    </main>
  );
}

function NoRuns({ isNarrowed, mayLaunch }: { isNarrowed: boolean; mayLaunch: boolean }) {
  if (isNarrowed) {
    return (
      <Notice kind="empty" title="No run matches">
        <p>
          <a href={href(["runs"])}>Show all runs</a>
        </p>
      </Notice>
    );
  }
  return (
    <Notice kind="empty" title="Nothing has been launched yet">
      {mayLaunch && (
        <p>
          <a href={href(["launch"])}>Launch a recipe</a> or <a href={href(["scripts"])}>a script</a>. It will
          appear here.
        </p>
      )}
    </Notice>
  );
}

/** The feed, or a separate one for a status, which is updated while it is shown. */
function useFilteredFeed(api: Api, feed: RunsFeed, status: RunStatus | undefined): RunsFeed {
  const filtered = useMemo(() => (status === undefined ? feed : runsFeed(api, status)), [api, feed, status]);
  useEffect(() => {
    if (filtered === feed) return undefined;
    const stop = new AbortController();
    void (async () => {
      while (!stop.signal.aborted) {
        await seen(stop.signal);
        await filtered.poll().catch(() => {});
        await pause(POLL_FILTERED_MS, stop.signal);
      }
    })();
    return () => stop.abort();
  }, [filtered, feed]);
  return filtered;
}

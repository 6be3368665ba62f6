import { SOURCES } from "../../host-agent/protocol/limits.ts";
import type { RunRecord, RunStatus, Source } from "../../host-agent/protocol/run.ts";
import type { Api } from "./api.ts";
import { createStore } from "./store.ts";
import { type SurfaceRuns, surfaceRuns } from "./surface-runs.ts";

/** What the feed shows at a moment. */
export interface RunsView {
  /** Newest first, without a gap. */
  runs: RunRecord[];
  isLoaded: boolean;
  hasMore: boolean;
  /** The surfaces that this key cannot read, with the API's reason. */
  denied: Partial<Record<Source, string>>;
}

export type RunsFeed = ReturnType<typeof runsFeed>;

/** The runs of both surfaces as one list that `poll` updates; with `status` only those that have it. */
export function runsFeed(api: Api, status?: RunStatus) {
  const surfaces = SOURCES.map((source) => surfaceRuns(api, source, status));
  const view = createStore<RunsView>({ runs: [], isLoaded: false, hasMore: false, denied: {} });
  let loading: Promise<void> | undefined;

  async function readFurther(): Promise<void> {
    const open = surfaces.filter(({ hasMore }) => hasMore);
    // The list has no gap only down to the oldest run of the surface that was read least far.
    await open.toSorted((a, b) => b.oldest() - a.oldest())[0]?.readOlder();
  }

  function publish(): void {
    const next = viewOf(surfaces);
    if (!isSame(view.get(), next)) view.set(next);
  }

  return {
    view,

    /** Reads what is new. Throws what the API throws. */
    async poll(): Promise<void> {
      try {
        await Promise.all(surfaces.map((surface) => surface.refresh()));
      } finally {
        publish();
      }
    },

    /** Reads older runs; a call during a reading joins it. */
    loadMore(): Promise<void> {
      loading ??= readFurther().finally(() => {
        loading = undefined;
        publish();
      });
      return loading;
    },

    /** Adds or replaces a run that another request has read, such as a launch or a kill. */
    add(run: RunRecord): void {
      surfaces.find(({ source }) => source === run.source)?.add(run);
      publish();
    },
  };
}

function viewOf(surfaces: readonly SurfaceRuns[]): RunsView {
  const complete = Math.max(...surfaces.map((surface) => (surface.hasMore ? surface.oldest() : 0)));
  const denied = surfaces.flatMap((surface) =>
    surface.denied === undefined ? [] : [[surface.source, surface.denied] as const],
  );
  return {
    runs: surfaces
      .flatMap((surface) => surface.list())
      .filter((run) => run.started_at >= complete)
      .toSorted((a, b) => b.started_at - a.started_at),
    isLoaded: surfaces.every(({ isRead }) => isRead),
    hasMore: surfaces.some(({ hasMore }) => hasMore),
    denied: Object.fromEntries(denied),
  };
}

function isSame(a: RunsView, b: RunsView): boolean {
  return (
    a.isLoaded === b.isLoaded &&
    a.hasMore === b.hasMore &&
    JSON.stringify(a.denied) === JSON.stringify(b.denied) &&
    a.runs.length === b.runs.length &&
    a.runs.every((run, i) => {
      const other = b.runs[i]!;
      return (
        run.run_id === other.run_id &&
        run.status === other.status &&
        run.ended_at === other.ended_at &&
        run.status_reason === other.status_reason
      );
    })
  );
}

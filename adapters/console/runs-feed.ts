import { SOURCES } from "../../host-agent/protocol/limits.ts";
import type { RunRecord, RunStatus, Source } from "../../host-agent/protocol/run.ts";
import { isProblem } from "../client/hub-error.ts";
import type { Api } from "./api.ts";
import { createStore } from "./store.ts";

const FIRST_PAGE = 50;
const LATER_PAGE = 500;
/** How many running runs far down the list are read one by one. */
const MAX_SINGLE_LOOKS = 20;

/** One surface's runs, from the newest to the oldest that was read. */
interface Surface {
  runs: Map<string, RunRecord>;
  cursor: string | null;
  /** Undefined until the first answer. */
  state: "unread" | "open" | "all-read";
  /** Why the key cannot read it. */
  denied?: string;
}

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
  const surfaces: Record<Source, Surface> = { pipeline: unread(), script: unread() };
  const view = createStore<RunsView>({ runs: [], isLoaded: false, hasMore: false, denied: {} });
  let loading: Promise<void> | undefined;

  /** Reads a page of one surface. A missing scope is stored, not thrown. */
  async function ask(source: Source, query: Parameters<Api["listRuns"]>[1]) {
    const surface = surfaces[source];
    try {
      const page = await api.listRuns(source, { ...query, ...(status && { status }) });
      delete surface.denied;
      return page;
    } catch (error) {
      if (!isProblem(error, "insufficient_scope")) throw error;
      surface.denied = error.message;
      surface.state = "all-read";
      surface.runs.clear();
      return undefined;
    }
  }

  async function refresh(source: Source): Promise<void> {
    const page = await ask(source, { limit: FIRST_PAGE });
    if (!page) return;
    const surface = surfaces[source];
    const isGap = page.next_cursor !== null && !page.runs.some(({ run_id }) => surface.runs.has(run_id));
    if (surface.state === "unread" || isGap) {
      surface.runs.clear();
      surface.cursor = page.next_cursor;
      surface.state = page.next_cursor === null ? "all-read" : "open";
    }
    for (const run of page.runs) surface.runs.set(run.run_id, run);

    const shown = new Set(page.runs.map(({ run_id }) => run_id));
    const alive = [...surface.runs.values()].filter((run) => run.ended_at === null && !shown.has(run.run_id));
    await Promise.all(
      alive.slice(0, MAX_SINGLE_LOOKS).map(async ({ run_id }) => {
        surface.runs.set(run_id, await api.getRun({ source, run_id }));
      }),
    );
  }

  async function readFurther(): Promise<void> {
    const open = SOURCES.filter((source) => surfaces[source].state === "open");
    // The list has no gap only down to the oldest run of the surface that was read least far.
    const source = open.toSorted((a, b) => horizon(surfaces[b]) - horizon(surfaces[a]))[0];
    if (!source) return;
    const surface = surfaces[source];
    const page = await ask(source, { limit: LATER_PAGE, cursor: surface.cursor });
    if (!page) return;
    for (const run of page.runs) surface.runs.set(run.run_id, run);
    surface.cursor = page.next_cursor;
    if (page.next_cursor === null) surface.state = "all-read";
  }

  function publish(): void {
    const all = SOURCES.map((source) => surfaces[source]);
    const complete = Math.max(...all.map((surface) => (surface.state === "open" ? horizon(surface) : 0)));
    const runs = all
      .flatMap((surface) => [...surface.runs.values()])
      .filter((run) => run.started_at >= complete)
      .toSorted((a, b) => b.started_at - a.started_at);
    const next: RunsView = {
      runs,
      isLoaded: all.every(({ state }) => state !== "unread"),
      hasMore: all.some(({ state }) => state === "open"),
      denied: Object.fromEntries(
        SOURCES.flatMap((source) =>
          surfaces[source].denied === undefined ? [] : [[source, surfaces[source].denied]],
        ),
      ),
    };
    if (isSame(view.get(), next)) return;
    view.set(next);
  }

  return {
    view,

    /** Reads what is new. Throws what the API throws. */
    async poll(): Promise<void> {
      try {
        await Promise.all(SOURCES.map(refresh));
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
      const surface = surfaces[run.source];
      if (surface.state === "unread") return;
      surface.runs.set(run.run_id, run);
      publish();
    },
  };
}

function unread(): Surface {
  return { runs: new Map(), cursor: null, state: "unread" };
}

/** When the oldest run that was read started, in epoch seconds. */
function horizon({ runs }: Surface): number {
  let oldest = Infinity;
  for (const { started_at } of runs.values()) oldest = Math.min(oldest, started_at);
  return oldest;
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

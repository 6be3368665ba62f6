import type { RunRecord, RunStatus, Source } from "../../host-agent/protocol/run.ts";
import { isProblem } from "../client/hub-error.ts";
import type { RunQuery } from "../client/hub-client.ts";
import type { Api } from "./api.ts";

const FIRST_PAGE = 50;
const LATER_PAGE = 500;
/** How many running runs far down the list are read one by one. */
const MAX_SINGLE_LOOKS = 20;

export type SurfaceRuns = ReturnType<typeof surfaceRuns>;

/** One surface's runs, from the newest to the oldest that was read; with `status` only those that have it. */
export function surfaceRuns(api: Api, source: Source, status: RunStatus | undefined) {
  const runs = new Map<string, RunRecord>();
  let cursor: string | null = null;
  let state: "unread" | "open" | "all-read" = "unread";
  let denied: string | undefined;

  const keep = (run: RunRecord) => void runs.set(run.run_id, run);

  /** Reads a page. A missing scope is stored, not thrown. */
  async function ask(query: RunQuery) {
    try {
      const page = await api.listRuns(source, { ...query, status });
      denied = undefined;
      return page;
    } catch (error) {
      if (!isProblem(error, "insufficient_scope")) throw error;
      denied = error.message;
      state = "all-read";
      runs.clear();
      return undefined;
    }
  }

  return {
    source,

    /** True after the first answer. */
    get isRead(): boolean {
      return state !== "unread";
    },

    /** True while older runs can be read. */
    get hasMore(): boolean {
      return state === "open";
    },

    /** Why the key cannot read this surface. */
    get denied(): string | undefined {
      return denied;
    },

    list: (): RunRecord[] => [...runs.values()],

    /** When the oldest run that was read started, in epoch seconds; Infinity without one. */
    oldest(): number {
      let oldest = Infinity;
      for (const { started_at } of runs.values()) oldest = Math.min(oldest, started_at);
      return oldest;
    },

    /** Reads the newest runs, and those further down that still run. Throws what the API throws. */
    async refresh(): Promise<void> {
      const page = await ask({ limit: FIRST_PAGE });
      if (!page) return;
      const isGap = page.next_cursor !== null && !page.runs.some(({ run_id }) => runs.has(run_id));
      if (state === "unread" || isGap) {
        runs.clear();
        cursor = page.next_cursor;
        state = page.next_cursor === null ? "all-read" : "open";
      }
      page.runs.forEach(keep);

      const read = new Set(page.runs.map(({ run_id }) => run_id));
      const running = [...runs.values()].filter((run) => run.ended_at === null && !read.has(run.run_id));
      await Promise.all(running.slice(0, MAX_SINGLE_LOOKS).map(async (run) => keep(await api.getRun(run))));
    },

    /** Reads the next page of older runs. Throws what the API throws. */
    async readOlder(): Promise<void> {
      const page = await ask({ limit: LATER_PAGE, cursor });
      if (!page) return;
      page.runs.forEach(keep);
      cursor = page.next_cursor;
      if (cursor === null) state = "all-read";
    },

    /** Adds or replaces a run, once the surface has been read. */
    add(run: RunRecord): void {
      if (state !== "unread") keep(run);
    },
  };
}

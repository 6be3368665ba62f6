import type { Reach } from "../protocol/reach.ts";
import type { RunStatus, Source } from "../protocol/run.ts";

/** Which runs a list has, newest first. */
export interface ListQuery {
  source: Source;
  status?: RunStatus | undefined;
  label?: string | undefined;
  /** Only runs in this reach. */
  reach?: Reach | undefined;
  /** Only runs older than this sequence number. */
  before?: number | undefined;
  /** The most runs on a page. */
  limit: number;
}

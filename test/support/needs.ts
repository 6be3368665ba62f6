import type { TestOptions } from "vitest";

declare module "vitest" {
  interface TaskMeta {
    /** Why a test cannot run here; the reporter of skipped tests prints it. */
    skipReason?: string;
  }
}

/** Why a test is skipped that makes cgroups. */
export const WHY_NO_CGROUP2 =
  "this process may not make cgroups: no cgroup2 is mounted, or it is read-only or another user's";

/**
 * Options of a test, or of a group of tests, which needs something of the
 * host. Where `isMet` is false, the tests are skipped, and the end of the run
 * prints `reason`: what is missing.
 */
export function needs(isMet: boolean, reason: string): TestOptions {
  return isMet ? {} : { skip: true, meta: { skipReason: reason } };
}

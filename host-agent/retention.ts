import { lstatSync, rmdirSync, rmSync, unlinkSync } from "node:fs";

import { fileIdentity } from "./log-limit.ts";
import { type RunFolder, runFolder } from "./run-files.ts";
import type { RunStore, StoredRun } from "./run-store.ts";

/** So many runs at one go, so that nobody waits for the others. */
const BATCH = 50;

/**
 * Forgets runs that ended before `endedBefore`, at most BATCH of them: log,
 * folder, and last of all the row, so that what breaks off is taken up again.
 * Returns them. Of a log only the very file is removed that was created for the run.
 */
export function pruneRuns(store: RunStore, stateDir: string, endedBefore: number): StoredRun[] {
  const pruned = store.endedBefore(endedBefore, BATCH);
  for (const run of pruned) {
    removeLog(run);
    removeFolder(runFolder(stateDir, run.run_id));
    store.remove(run.run_id);
  }
  return pruned;
}

/** What stays for ever because somebody has changed it keeps no other run from being forgotten. */
const OUT_OF_OUR_HANDS = [
  "ENOENT",
  "ENOTDIR",
  "EISDIR",
  "ERR_FS_EISDIR",
  "ENOTEMPTY",
  "EACCES",
  "EPERM",
  "EROFS",
];

function removeLog({ log_path, log_file }: StoredRun): void {
  if (log_file === null) return;
  ignoring(OUT_OF_OUR_HANDS, () => {
    const stats = lstatSync(log_path, { throwIfNoEntry: false });
    if (stats?.isFile() && fileIdentity(stats) === log_file) unlinkSync(log_path);
  });
}

/** Our own two files and the folder; with anything else in it, which only the run can have put there, it stays. */
function removeFolder({ path, started, exit }: RunFolder): void {
  ignoring(OUT_OF_OUR_HANDS, () => rmSync(started, { force: true }));
  ignoring(OUT_OF_OUR_HANDS, () => rmSync(exit, { force: true }));
  ignoring(OUT_OF_OUR_HANDS, () => rmdirSync(path));
}

function ignoring(codes: readonly string[], work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!codes.includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

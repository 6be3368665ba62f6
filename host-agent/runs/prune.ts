import { lstatSync, rmdirSync, rmSync, unlinkSync } from "node:fs";

import { fileIdentity } from "../logs/log-limit.ts";
import { type RunFolder, runFolder } from "../executor/run-folder.ts";
import type { RunStore, StoredRun } from "../store/run-store.ts";

/**
 * Forgets a run that has ended: its log, its folder, and last of all the row,
 * so that what breaks off is taken up again. Of a log only the very file is
 * removed that was created for the run. False when another agent has forgotten it.
 * Throws when the file system fails.
 */
export function forget(run: StoredRun, store: RunStore, stateDir: string): boolean {
  removeLog(run);
  removeFolder(runFolder(stateDir, run.run_id));
  return store.remove(run.run_id);
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

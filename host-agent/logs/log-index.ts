import { symlinkSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join, relative } from "node:path";

import { makeFolder } from "../system/make-folder.ts";

/** Finds the log of a run by its id, for programs that ship logs: a log's own name has no id. */
export interface LogIndex {
  /** Adds the link of a run that was started. A link that cannot be made is left out: nothing of the agent reads it. */
  add(runId: string, logPath: string): void;
  /** Removes the link of a run. Rejects when the file system fails. */
  remove(runId: string): Promise<void>;
}

/** The index in `folder`: for each run a symbolic link `<run_id>.log` to its log. Throws when the folder cannot be made. */
export function openLogIndex(folder: string): LogIndex {
  makeFolder(folder);
  const linkOf = (runId: string) => join(folder, `${runId}.log`);
  return {
    add(runId, logPath) {
      try {
        // Relative, so that a state folder that was moved or restored elsewhere stays whole.
        symlinkSync(relative(folder, logPath), linkOf(runId));
      } catch {
        // It exists, or the disk is full: the launch has been made, and its record has the path.
      }
    },
    remove: (runId) => rm(linkOf(runId), { force: true }),
  };
}

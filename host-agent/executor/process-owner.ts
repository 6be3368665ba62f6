import { readFileSync } from "node:fs";

import { isUnableToLook } from "../system/exhaustion.ts";

/** Whether the process of this pid has `uid` as its real or saved user, as kill(2) asks; false when it is gone. Throws when it cannot be looked at now. */
export function belongsTo(pid: number, uid: number): boolean {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/status`, "latin1");
  } catch (error) {
    if (isUnableToLook(error)) throw error;
    return false;
  }
  // The name of the process comes before, and its newlines are escaped there (proc_pid_status(5)).
  const [, real, , saved] = /^Uid:\t(\d+)\t(\d+)\t(\d+)/m.exec(text) ?? [];
  return Number(real) === uid || Number(saved) === uid;
}

import { spawnSync } from "node:child_process";
import { join } from "node:path";

/** The id of the user `nobody` on Linux: one without rights. */
export const NOBODY_UID = 65_534;
const WRAPPER_SH = join(import.meta.dirname, "..", "..", "host-agent", "executor", "wrapper.sh");

/** Whether a test may start a process as `nobody` that can read this project: only root may, and not below a closed folder such as /root. */
export const CAN_BE_NOBODY =
  process.getuid?.() === 0 &&
  spawnSync("/bin/sh", ["-c", 'test -r "$1" && test -x "$2"', "sh", WRAPPER_SH, process.execPath], {
    uid: NOBODY_UID,
  }).status === 0;

/** Why a test is skipped that root alone can run. */
export const ONLY_ROOT = "only root can act as several users";

/** Why a test is skipped that starts a process as `nobody`. */
export const WHY_NOT_NOBODY =
  process.getuid?.() === 0 ? "the user nobody may not read the project's folder" : ONLY_ROOT;

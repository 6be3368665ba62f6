import { statfsSync } from "node:fs";
import { join } from "node:path";

import { readCatalogue } from "../../../host-agent/inspection.ts";
import { nearestFolder } from "../files.ts";
import { type Check, fail, type Finding, pass, type Patient, warn } from "../finding.ts";

const MEBIBYTE = 1_048_576;
const WARN_BELOW = 1_024 * MEBIBYTE;
const FAIL_BELOW = 64 * MEBIBYTE;

/** Free space for state and logs. */
export const disk: Check = {
  name: "Disk",
  look(patient) {
    const folders = [patient.agent.stateDir, join(patient.agent.stateDir, "logs"), ...logDirs(patient)];
    return [...[...new Set(folders.map(nearestFolder))].map(lookAt), ...lookAtCap(patient)];
  },
};

function lookAt(folder: string): Finding {
  const { bavail, bsize, ffree, files } = statfsSync(folder);
  const free = bavail * bsize;
  const says = `${folder} has ${Math.floor(free / MEBIBYTE)} MiB free`;
  const advice =
    "Remove logs of ended runs, or enlarge the disk. On a full disk launches are answered with 503.";
  if (files > 0 && ffree === 0) return fail(`${folder} has no free inode.`, advice);
  if (free < FAIL_BELOW) return fail(`${says}.`, advice);
  return free < WARN_BELOW ? warn(`${says}.`, advice) : pass(`${says}.`);
}

/** A cap on the logs of ended runs that cannot do what it is for. */
function lookAtCap({ agent: { stateDir, maxLogsBytes, maxLogBytes } }: Patient): Finding[] {
  if (maxLogsBytes === undefined) return [];
  const { blocks, bsize } = statfsSync(nearestFolder(join(stateDir, "logs")));
  if (maxLogsBytes > blocks * bsize)
    return [warn("HUB_MAX_LOGS_BYTES is more than the disk has.", "Set it below the size of the disk.")];
  if (maxLogBytes === undefined || maxLogBytes > maxLogsBytes)
    return [
      warn(
        "HUB_MAX_LOGS_BYTES is less than one log may have (HUB_MAX_LOG_BYTES).",
        "Set HUB_MAX_LOG_BYTES to a part of it.",
      ),
    ];
  return [];
}

function logDirs({ agent: { recipesFile } }: Patient): string[] {
  try {
    const { recipes } = readCatalogue(recipesFile);
    return [...recipes.values()].flatMap(({ log_dir }) => log_dir ?? []);
  } catch {
    return [];
  }
}

import { accessSync, constants, lstatSync, type Stats } from "node:fs";
import { dirname, join } from "node:path";

import { isWritable, nearestFolder, strangersAt } from "../files.ts";
import { type Check, fail, pass } from "../finding.ts";

/** Whether the record of changes can be kept: without it the service does not start. */
export const audit: Check = {
  name: "Audit log",
  look({ agent }) {
    const path = agent.auditFile ?? join(agent.stateDir, "audit.log");
    const stats = placeOf(path);
    // Nor a link: the service does not follow one there.
    if (stats && !stats.isFile()) return [fail(`${path} is no file.`, "Name a file in HUB_AUDIT_FILE.")];
    if (stats && !mayWrite(path)) {
      return [fail(`${path} cannot be written.`, "Give it to the user of the service.")];
    }
    // In the state folder it shares that folder's fate, which is looked at by itself.
    if (agent.auditFile === undefined) return [];
    if (!isWritable(nearestFolder(dirname(path)))) {
      return [fail(`${path} cannot be written.`, "Give its folder to the user of the service.")];
    }
    const strangers = strangersAt(dirname(path));
    if (strangers !== undefined) {
      return [
        fail(
          `The folder of ${path} ${strangers}, who can put another record there.`,
          "Give the folder to the user of the service, and close it.",
        ),
      ];
    }
    return [pass(`${path} can be written.`)];
  },
};

/** What stands there, a link included; undefined for nothing, and where its folder is none. */
function placeOf(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function mayWrite(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

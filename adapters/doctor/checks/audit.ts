import { accessSync, constants, lstatSync, type Stats } from "node:fs";
import { dirname, join } from "node:path";

import { isWritable, nearestFolder, strangersAt } from "../files.ts";
import { type Check, fail, pass } from "../finding.ts";

/** Whether the audit log can be written: without it the service does not start. */
export const audit: Check = {
  name: "Audit log",
  look({ agent }) {
    const path = agent.auditFile ?? join(agent.stateDir, "audit.log");
    const stats = placeOf(path);
    // A link is refused as well: the service does not follow it.
    if (stats && !stats.isFile())
      return [fail(`${path} is not a regular file.`, "Set HUB_AUDIT_FILE to a file.")];
    if (stats && !mayWrite(path)) {
      return [fail(`${path} cannot be written.`, "chown it to the user of the service.")];
    }
    // In the state folder, the check of that folder covers it.
    if (agent.auditFile === undefined) return [];
    if (!isWritable(nearestFolder(dirname(path)))) {
      return [fail(`${path} cannot be written.`, "chown its folder to the user of the service.")];
    }
    const strangers = strangersAt(dirname(path));
    if (strangers !== undefined) {
      return [
        fail(
          `The folder of ${path} ${strangers}, who can replace the audit log.`,
          "chown the folder to the user of the service, and chmod go-w it.",
        ),
      ];
    }
    return [pass(`${path} can be written.`)];
  },
};

/** The stats of a path, of a link itself; undefined when it does not exist. */
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

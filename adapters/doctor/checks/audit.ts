import { dirname, join } from "node:path";

import { isWritable, nearestFolder, statOf, strangersAt } from "../files.ts";
import { type Check, fail, pass } from "../finding.ts";

/** Whether the record of changes can be kept: without it the service does not start. */
export const audit: Check = {
  name: "Audit log",
  look({ agent }) {
    const path = agent.auditFile ?? join(agent.stateDir, "audit.log");
    const stats = statOf(path);
    if (stats && !stats.isFile()) return [fail(`${path} is no file.`, "Name a file in HUB_AUDIT_FILE.")];
    // In the state folder it shares that folder's fate, which is looked at by itself.
    if (agent.auditFile === undefined) return [];
    if (!isWritable(nearestFolder(dirname(path)))) {
      return [fail(`${path} cannot be written.`, "Give its folder to the user of the service.")];
    }
    const strangers = strangersAt(dirname(path));
    if (strangers !== undefined) {
      return [fail(`The folder of ${path} ${strangers}, who can put another record there.`, `Close it.`)];
    }
    return [pass(`${path} can be written.`)];
  },
};

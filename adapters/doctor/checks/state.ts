import { constants, accessSync } from "node:fs";

import { isWritable, modeOf, nearestFolder, statOf } from "../files.ts";
import { type Check, fail, pass, warn } from "../finding.ts";

/** The folder that holds all that must survive: ours alone. */
export const state: Check = {
  name: "State folder",
  look({ agent: { stateDir } }) {
    const stats = statOf(stateDir);
    if (stats === undefined) {
      const folder = nearestFolder(stateDir);
      return [
        isWritable(folder)
          ? pass(`${stateDir} is not there yet; the first start makes it.`)
          : fail(
              `${stateDir} is not there, and ${folder} does not let this user make it.`,
              `Make it as root and give it to the user of the service: install -d -m 0700 -o USER ${stateDir}`,
            ),
      ];
    }
    if (!stats.isDirectory()) {
      return [fail(`${stateDir} is no folder.`, "Move it away, or set HUB_STATE_DIR to another path.")];
    }
    const user = process.getuid?.();
    if (stats.uid !== user) {
      return [
        fail(
          `${stateDir} belongs to uid ${stats.uid}, and this is uid ${user}.`,
          "Run the doctor as the user of the service; if this is that user, chown -R the folder to it.",
        ),
      ];
    }
    try {
      accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK);
    } catch {
      return [
        fail(
          `${stateDir} cannot be written by its own user.`,
          `chmod 0700 ${stateDir}; is its file system read-only?`,
        ),
      ];
    }
    return [
      (stats.mode & 0o077) === 0
        ? pass(`${stateDir} is ours, and closed to others.`)
        : warn(
            `${stateDir} is open to other users (mode ${modeOf(stats)}).`,
            "The next start closes it; or chmod 0700 it now.",
          ),
    ];
  },
};

import { constants, accessSync } from "node:fs";

import { isWritable, modeOf, nearestFolder, statOf } from "../files.ts";
import { type Check, fail, pass, warn } from "../finding.ts";

/** The state folder, which must survive restarts and be closed to other users. */
export const state: Check = {
  name: "State folder",
  look({ agent: { stateDir } }) {
    const stats = statOf(stateDir);
    if (stats === undefined) {
      const folder = nearestFolder(stateDir);
      return [
        isWritable(folder)
          ? pass(`${stateDir} does not exist yet. The first start creates it.`)
          : fail(
              `${stateDir} does not exist, and this user cannot create it in ${folder}.`,
              `Create it as root for the user of the service: install -d -m 0700 -o USER ${stateDir}`,
            ),
      ];
    }
    if (!stats.isDirectory()) {
      return [fail(`${stateDir} is not a folder.`, "Move it, or set HUB_STATE_DIR to another path.")];
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
          `chmod 0700 ${stateDir}, and check whether its file system is read-only.`,
        ),
      ];
    }
    return [
      (stats.mode & 0o077) === 0
        ? pass(`${stateDir} belongs to this user, and is closed to others.`)
        : warn(
            `${stateDir} is open to other users (mode ${modeOf(stats)}).`,
            "The next start closes it. To close it now: chmod 0700.",
          ),
    ];
  },
};

import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { isWritable, nearestFolder, statOf } from "../files.ts";
import { type Check, fail, messageOf, pass, warn } from "../finding.ts";

const ADVICE = "It only remembers replays. Stop the service and remove it, or set HUB_KV to another path.";

/** Whether the store of replays can be written. The attempt is rolled back. */
export const kv: Check = {
  name: "KV",
  look({ node }) {
    if (node === undefined) return [warn("It was not checked.", "Fix the settings first.")];
    const path = node.kvFile;
    if (path === undefined) return [pass("It is in memory: a restart forgets the replays.")];
    if (statOf(path) === undefined) {
      const folder = nearestFolder(dirname(path));
      return [
        isWritable(folder)
          ? pass(`${path} does not exist yet. The first start creates it.`)
          : fail(
              `${path} does not exist, and this user cannot create it in ${folder}.`,
              "Let this user write there, or set HUB_KV to another path.",
            ),
      ];
    }
    try {
      const db = new DatabaseSync(path, { timeout: 1_000 });
      try {
        db.exec("BEGIN IMMEDIATE; CREATE TABLE doctor (x); ROLLBACK");
      } finally {
        db.close();
      }
      return [pass(`${path} can be written.`)];
    } catch (error) {
      return [fail(`${path} cannot be written: ${messageOf(error)}.`, ADVICE)];
    }
  },
};

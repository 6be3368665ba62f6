import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { isWritable, nearestFolder, statOf } from "../files.ts";
import { type Check, fail, messageOf, pass, warn } from "../finding.ts";

const ADVICE =
  "It is only a memory of replays: stop the service and remove it, or set HUB_KV to another path.";

/** The store of replays: can it be written? What is tried is rolled back. */
export const kv: Check = {
  name: "KV",
  look({ node }) {
    if (node === undefined) return [warn("It was not looked at.", "Mend the settings first.")];
    const path = node.kvFile;
    if (path === undefined) return [pass("It is in memory: replays are forgotten with a restart.")];
    if (statOf(path) === undefined) {
      const folder = nearestFolder(dirname(path));
      return [
        isWritable(folder)
          ? pass(`${path} is not there yet; the first start makes it.`)
          : fail(`${path} is not there, and ${folder} does not let this user make it.`, ADVICE),
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

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

import { statOf } from "../files.ts";
import { type Check, fail, messageOf, pass } from "../finding.ts";

const run = promisify(execFile);
const TIMEOUT_MS = 5_000;
/** In a separate process, which can be ended when the database is large. */
const PROGRAM = `
  const db = new (require("node:sqlite").DatabaseSync)(process.argv[1], { readOnly: true, timeout: 1000 });
  console.log(db.prepare("PRAGMA quick_check(1)").get().quick_check);
`;

/** The record of all runs; it is only read. */
export const database: Check = {
  name: "Record of runs",
  async look({ agent: { stateDir } }) {
    const path = join(stateDir, "runs.db");
    if (statOf(path) === undefined) return [pass(`${path} does not exist yet. The first start creates it.`)];
    const advice = `Stop the service, keep a copy of ${stateDir}, and restore runs.db and runs/ from a backup.`;
    try {
      const { stdout } = await run(process.execPath, ["-e", PROGRAM, path], { timeout: TIMEOUT_MS, env: {} });
      const verdict = stdout.trim();
      return [
        verdict === "ok" ? pass(`${path} is intact.`) : fail(`${path} is damaged: ${verdict}.`, advice),
      ];
    } catch (error) {
      if ((error as { killed?: boolean }).killed)
        return [pass(`${path} is too large to be checked in ${TIMEOUT_MS / 1000} s.`)];
      const reason = /Error: (.+)/.exec((error as { stderr?: string }).stderr ?? "")?.[1] ?? messageOf(error);
      return [fail(`${path} cannot be read: ${reason}.`, advice)];
    }
  },
};

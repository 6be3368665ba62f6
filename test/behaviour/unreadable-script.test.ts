import { execFileSync } from "node:child_process";
import { chmod } from "node:fs/promises";

import { expect, test } from "vitest";

import { type Deploy, startHub } from "../support/hub.ts";
import { needs } from "../support/needs.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../support/other-user.ts";
import { serverProcess } from "../support/server-process.ts";

/** A server as `nobody`, to whom its files are given: root may read every file. */
const asNobody: Deploy = (setup) => {
  execFileSync("chown", ["-R", `${NOBODY_UID}:${NOBODY_UID}`, setup.dir]);
  return serverProcess({ stopSignal: "SIGTERM", uid: NOBODY_UID })(setup);
};

test(
  "a script that the user of the Hub may not read is neither shown nor launched",
  needs(CAN_BE_NOBODY, WHY_NOT_NOBODY),
  async () => {
    await using hub = await startHub({ deploy: asNobody });
    const path = await hub.script("closed.sh", "true");
    await chmod(path, 0o000);

    const shown = await hub.get(`/api/v1/scripts/content?path=${encodeURIComponent(path)}`);
    const launched = await hub.post("/api/v1/scripts/runs", { path });

    for (const { status, json } of [shown, launched])
      expect({ status, code: json.code }).toEqual({ status: 403, code: "path_forbidden" });
  },
);

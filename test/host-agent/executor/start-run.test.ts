import { existsSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { refusal, resultOf } from "../../../host-agent/executor/spawner-protocol.ts";
import { runFolder } from "../../../host-agent/executor/run-folder.ts";
import { startRun } from "../../../host-agent/executor/start-run.ts";
import { tempDir } from "../../support/temp-dir.ts";

test("without its wrapper a run is not started and not blamed: the launch may be tried again, and the log says what to do", async () => {
  const dir = tempDir();
  const runId = "run_4000000000aa";
  const folder = runFolder(dir, runId);
  const [logPath, helper] = [join(dir, "log"), join(dir, "removed-wrapper")];
  const command = {
    argv: ["/bin/true"],
    cwd: dir,
    env: {},
    terminal: false,
    script: undefined,
    logDir: dir,
  };

  const started = startRun(command, {
    runId,
    folder,
    logPath,
    logLimit: undefined,
    env: { PATH: "/usr/bin:/bin" },
    runUser: undefined,
    helper,
  });

  const error: unknown = await started.catch((thrown: unknown) => thrown);
  // As the agent receives it from the process that starts runs.
  await expect((async () => resultOf(refusal(1, error)))()).rejects.toMatchObject({
    code: "host_unavailable",
    extras: {
      retryAfterSeconds: 10,
      cause: expect.stringMatching(/removed-wrapper does not exist\. Run `npm ci`/),
    },
  });
  expect(existsSync(folder.path)).toBe(false);
  expect(existsSync(logPath)).toBe(false);
});

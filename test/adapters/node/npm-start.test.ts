import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import { processState } from "../../../host-agent/inspection.ts";
import { until } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";

const PROJECT = fileURLToPath(new URL("../../..", import.meta.url));
const { scripts } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8")) as {
  scripts: Record<string, string>;
};

test("a SIGTERM to npm stops the service: it does not stay on its port as an orphan", async () => {
  const home = tempDir();
  // Without its build, which other tests run.
  const npm = spawn("npm", ["start", "--ignore-scripts"], {
    cwd: PROJECT,
    env: {
      PATH: process.env["PATH"],
      HOME: home,
      HUB_PORT: "0",
      HUB_KEYS_FILE: join(home, "keys.json"),
    },
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  onTestFinished(() => endGroup(npm.pid!));
  let output = "";
  npm.stdout.on("data", (chunk) => (output += String(chunk)));
  await until(() => /^ +address +http/m.test(output) || undefined, 25_000);
  const service = await until(() => childOf(childOf(npm.pid) ?? 0) ?? childOf(npm.pid));

  const ended = once(npm, "exit");
  npm.kill("SIGTERM");
  await ended;

  await until(() => processState(service) === "gone" || undefined, 5_000);
  expect(output).toContain("Stopped by SIGTERM");
});

test("each npm script of a service starts it in place of its shell, which would not pass a signal on", () => {
  for (const name of ["start", "agent", "dev", "edge"]) expect(scripts[name], name).toMatch(/^exec /);
});

/** The child of a process that was started last; undefined when it has none. */
function childOf(pid: number | undefined): number | undefined {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  const last = Number(children.at(-1));
  return last > 0 ? last : undefined;
}

function endGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // All of it has ended.
  }
}

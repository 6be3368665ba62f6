import { spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

import { prepareStateDir } from "../../../host-agent/state-dir.ts";
import { makeFolder } from "../../../host-agent/system/make-folder.ts";
import { needs } from "../../support/needs.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../../support/other-user.ts";
import { tempDir } from "../../support/temp-dir.ts";

const STATE_DIR_TS = fileURLToPath(new URL("../../../host-agent/state-dir.ts", import.meta.url));
const AGENT_TS = fileURLToPath(new URL("../../../host-agent/agent.ts", import.meta.url));
const CONFIG_TS = fileURLToPath(new URL("../../../host-agent/config.ts", import.meta.url));
const MAY_MOUNT = spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).status === 0;

/** What a start reports about this state folder, in a process that `before` starts. */
function preparing(stateDir: string, before: string[], options: { uid?: number; gid?: number } = {}): string {
  const program = `import { prepareStateDir } from ${JSON.stringify(STATE_DIR_TS)}; prepareStateDir(${JSON.stringify(stateDir)});`;
  const [command, ...args] = [...before, process.execPath, "--input-type=module", "--eval", program];
  return spawnSync(command, args, { encoding: "utf8", ...options }).stderr;
}

test(
  "a state folder on a read-only mount is reported as read-only, and not as missing",
  needs(MAY_MOUNT, "unshare may not mount here"),
  () => {
    const stateDir = join("/mnt", "deep", "state");
    const mount = 'mount -t tmpfs -o ro none /mnt && exec "$@"';
    expect(preparing(stateDir, ["unshare", "--mount", "sh", "-c", mount, "sh"])).toMatch(
      /HUB_STATE_DIR: \/mnt\/deep\/state cannot be used: EROFS: read-only file system, mkdir '\/mnt\/deep'/,
    );
  },
);

test(
  "a folder of the audit log on a read-only mount is reported as read-only",
  needs(MAY_MOUNT, "unshare may not mount here"),
  () => {
    const program = `import { startAgent } from ${JSON.stringify(AGENT_TS)};
      import { readAgentConfig } from ${JSON.stringify(CONFIG_TS)};
      const env = { HUB_STATE_DIR: ${JSON.stringify(join(tempDir(), "state"))}, HUB_AUDIT_FILE: "/mnt/audit/log" };
      await startAgent(readAgentConfig(env), env, () => {});`;
    const mount = 'mount -t tmpfs -o ro none /mnt && exec "$@"';
    const args = [
      "--mount",
      "sh",
      "-c",
      mount,
      "sh",
      process.execPath,
      "--input-type=module",
      "--eval",
      program,
    ];
    const { stderr } = spawnSync("unshare", args, { encoding: "utf8" });
    expect(stderr).toContain("HUB_AUDIT_FILE: the audit log cannot be used: EROFS: read-only file system");
  },
);

test(
  "a state folder in a folder that this user may not write is reported as forbidden",
  needs(CAN_BE_NOBODY, WHY_NOT_NOBODY),
  () => {
    const dir = tempDir();
    chownSync(dir, 0, NOBODY_UID);
    const stderr = preparing(join(dir, "deep", "state"), [], { uid: NOBODY_UID, gid: NOBODY_UID });
    expect(stderr).toMatch(/cannot be used: EACCES: permission denied/);
  },
);

test("a folder is made with all its missing parents, closed to others, and once more without an error", () => {
  const dir = tempDir();
  const folder = join(dir, "a", "b");
  makeFolder(folder);
  makeFolder(folder);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  expect(statSync(join(dir, "a")).mode & 0o777).toBe(0o700);
  rmSync(folder, { recursive: true });
  mkdirSync(folder, { mode: 0o700 });
  prepareStateDir(folder);
  expect(existsSync(join(folder, "runs"))).toBe(true);
});

import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { openScripts } from "../../../host-agent/catalogue/scripts.ts";
import { ApiProblem } from "../../../host-agent/protocol/problem.ts";
import { needs } from "../../support/needs.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** A FUSE file system whose server has died: every look at it fails with ENOTCONN. */
const MOUNT_DEAD =
  'exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 dead "$1" 2>/dev/null';

/** Makes `path` such a file system until the test has finished. False where nothing may be mounted. */
function mountDead(path: string): boolean {
  const isMounted = spawnSync("/bin/sh", ["-c", MOUNT_DEAD, "sh", path]).status === 0;
  if (isMounted) onTestFinished(() => void execFileSync("umount", [path]));
  return isMounted;
}

/** Tried once, before the tests: what a test needs has to be known then. */
const MAY_MOUNT =
  process.getuid?.() === 0 &&
  spawnSync("unshare", ["--mount", "/bin/sh", "-c", MOUNT_DEAD, "sh", "/mnt"]).status === 0;

describe("a script that cannot be looked at now", () => {
  test(
    "is neither forbidden nor missing: the answer is a 503 that names the error",
    needs(MAY_MOUNT, "unshare may not mount here"),
    async () => {
      const root = realpathSync(tempDir());
      const dead = join(root, "dead");
      mkdirSync(dead);
      expect(mountDead(dead)).toBe(true);
      symlinkSync("dead/a.sh", join(root, "link.sh"));
      const scripts = openScripts([root]);

      for (const use of [
        scripts.approve(join(dead, "a.sh")),
        scripts.read(join(dead, "a.sh")),
        scripts.list(dead),
        scripts.approve(join(root, "link.sh")),
        openScripts([join(dead, "root")]).approve(join(dead, "root", "a.sh")),
      ]) {
        const error = await use.catch((thrown: unknown) => thrown);
        expect(error).toBeInstanceOf(ApiProblem);
        expect(error).toMatchObject({ code: "host_unavailable", extras: { retryAfterSeconds: 10 } });
        expect((error as ApiProblem).message).toContain("ENOTCONN");
      }
      writeFileSync(join(root, "good.sh"), "true");
      expect((await scripts.list()).scripts, "the rest of the list stays").toMatchObject([
        { name: "good.sh" },
      ]);
    },
  );
});

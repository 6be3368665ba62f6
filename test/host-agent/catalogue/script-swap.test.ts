import fs, { mkdirSync, realpathSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";

import { expect, onTestFinished, test, vi } from "vitest";

import { openScripts } from "../../../host-agent/catalogue/scripts.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** A script inside the root, and a file outside it that no client may read. */
function world() {
  const dir = realpathSync(tempDir());
  const root = join(dir, "root");
  mkdirSync(root);
  const [path, secret] = [join(root, "job.sh"), join(dir, "secret.sh")];
  writeFileSync(path, "#!/bin/sh\ntrue\n", { mode: 0o755 });
  writeFileSync(secret, "secret");
  return { path, secret, scripts: openScripts([root]) };
}

/** Does something right after the host has looked at what is at this path: what a client of the host may do at any moment. */
function afterLookAt(path: string, work: () => void): void {
  const { lstatSync } = fs;
  const spy = vi.spyOn(fs, "lstatSync").mockImplementation(((asked: string, options: object) => {
    const stats = lstatSync(asked, options);
    if (asked === path) {
      restore();
      work();
    }
    return stats;
  }) as typeof lstatSync);
  const restore = () => {
    spy.mockRestore();
    syncBuiltinESMExports();
  };
  // The module under test has imported the function by its name.
  syncBuiltinESMExports();
  onTestFinished(restore);
}

test.for(["read", "approve"] as const)(
  "a script that becomes a link after it was looked at is not followed to %s what is outside",
  async (what) => {
    const { path, secret, scripts } = world();
    expect(await scripts[what](path)).toMatchObject({ path });
    afterLookAt(path, () => {
      renameSync(path, `${path}.old`);
      symlinkSync(secret, path);
    });
    await expect(scripts[what](path)).rejects.toMatchObject({
      code: "path_forbidden",
      message: "path: only .sh files inside the script roots are allowed",
    });
  },
);

test("a script that is approved is unchanged until its bytes, its file or its path are others", async () => {
  const changes: ((path: string) => void)[] = [
    (path) => writeFileSync(path, "#!/bin/sh\nfals\n"),
    (path) => {
      writeFileSync(`${path}.new`, "#!/bin/sh\ntrue\n", { mode: 0o755 });
      renameSync(`${path}.new`, path);
    },
    (path) => renameSync(path, `${path}.old`),
    (path) => {
      renameSync(path, `${path}.old`);
      symlinkSync(`${path}.old`, path);
    },
  ];
  /* oxlint-disable no-await-in-loop -- a folder each */
  for (const change of changes) {
    const { path, scripts } = world();
    const approved = await scripts.approve(path);
    expect(await scripts.isUnchanged(approved)).toBe(true);
    change(path);
    expect(await scripts.isUnchanged(approved), change.toString()).toBe(false);
  }
});

import { mkdirSync, realpathSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
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

/** Does something right after the real path of this path was found: what a client of the host may do at any moment. */
function afterRealPathOf(path: string, work: () => void): void {
  const native = realpathSync.native.bind(realpathSync);
  const spy = vi.spyOn(realpathSync, "native").mockImplementation(((asked: string) => {
    const real = native(asked);
    if (asked === path) {
      spy.mockRestore();
      work();
    }
    return real;
  }) as typeof realpathSync.native);
  onTestFinished(() => spy.mockRestore());
}

test.for(["read", "approve"] as const)(
  "a script that becomes a link after its real path was found is not followed to %s what is outside",
  async (what) => {
    const { path, secret, scripts } = world();
    expect(await scripts[what](path)).toMatchObject({ path });
    afterRealPathOf(path, () => {
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
  for (const change of changes) {
    const { path, scripts } = world();
    // oxlint-disable-next-line no-await-in-loop -- a folder each
    const approved = await scripts.approve(path);
    expect(scripts.isUnchanged(approved)).toBe(true);
    change(path);
    expect(scripts.isUnchanged(approved), change.toString()).toBe(false);
  }
});

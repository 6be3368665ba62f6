// oxlint-disable no-await-in-loop -- a folder each
import { mkdirSync, realpathSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test, vi } from "vitest";

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

/** Done once, right after a look at its path: what a user of the host may do at any moment. */
const after = vi.hoisted(() => ({ lookAt: undefined as { path: string; work: () => void } | undefined }));

vi.mock(import("node:fs"), async (importOriginal) => {
  const fs = await importOriginal();
  const lstatSync = ((path: string, ...rest: []) => {
    const stats = fs.lstatSync(path, ...rest);
    if (after.lookAt?.path !== path) return stats;
    const { work } = after.lookAt;
    after.lookAt = undefined;
    work();
    return stats;
  }) as typeof fs.lstatSync;
  return { ...fs, lstatSync };
});

test.for(["read", "approve"] as const)(
  "a script that becomes a link after its real path was found is not followed to %s what is outside",
  async (what) => {
    const { path, secret, scripts } = world();
    expect(await scripts[what](path)).toMatchObject({ path });
    const work = () => {
      renameSync(path, `${path}.old`);
      symlinkSync(secret, path);
    };
    after.lookAt = { path, work };
    await expect(scripts[what](path)).rejects.toMatchObject({
      code: "path_forbidden",
      message: "path: only .sh files inside the script roots are allowed",
    });
    expect(after.lookAt, "it became a link").toBeUndefined();
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
    const approved = await scripts.approve(path);
    expect(await scripts.isUnchanged(approved)).toBe(true);
    // So long that the clock of the file system has moved: on older kernels it moves every 4 ms.
    await new Promise((resolve) => setTimeout(resolve, 15));
    change(path);
    expect(await scripts.isUnchanged(approved), change.toString()).toBe(false);
  }
});

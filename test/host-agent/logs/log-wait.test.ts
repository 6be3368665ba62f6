import { appendFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { watchFiles } from "../../../host-agent/logs/log-wait.ts";
import { tempDir } from "../../support/temp-dir.ts";

test("a watch reports each change of a file: growth, another file in its place, and growth of that one", async () => {
  const path = join(tempDir(), "a.log");
  writeFileSync(path, "1");
  using watch = watchFiles([path]);
  for (const change of [
    () => appendFileSync(path, "2"),
    () => {
      writeFileSync(`${path}.new`, "other");
      renameSync(`${path}.new`, path);
    },
    () => appendFileSync(path, "3"),
  ]) {
    const changed = watch.next();
    change();
    await expect(changed).resolves.toBeUndefined();
  }
});

test("a watch reports a file that did not exist when it began", async () => {
  const path = join(tempDir(), "late.log");
  using watch = watchFiles([path]);
  const changed = watch.next();
  writeFileSync(path, "first");
  await expect(changed).resolves.toBeUndefined();
});

test("of two watches of one file the second goes on when the first is disposed of", async () => {
  const path = join(tempDir(), "a.log");
  writeFileSync(path, "1");
  const first = watchFiles([path]);
  using second = watchFiles([path]);
  first[Symbol.dispose]();
  const changed = second.next();
  appendFileSync(path, "2");
  await expect(changed).resolves.toBeUndefined();
});

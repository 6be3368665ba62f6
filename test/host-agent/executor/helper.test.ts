import { chmodSync, copyFileSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { chooseHelper, HELPER_PATH, obstacleToHelper } from "../../../host-agent/executor/helper.ts";
import { needs } from "../../support/needs.ts";
import { tempDir } from "../../support/temp-dir.ts";

test("a compiled wrapper is used only if it exists, is of this version, runs, and nobody else may write to it", () => {
  const path = join(tempDir(), "helper");
  expect(obstacleToHelper(undefined, path)).toContain("was not built");
  writeFileSync(path, "#!/bin/sh\necho hub-wrapper 0\n", { mode: 0o755 });
  expect(obstacleToHelper(undefined, path)).toContain("another version");
  writeFileSync(path, "#!/bin/sh\necho hub-wrapper 2\n");
  expect(obstacleToHelper(undefined, path)).toBeUndefined();
  chmodSync(path, 0o777);
  expect(obstacleToHelper(undefined, path)).toContain("others may write");
  chmodSync(path, 0o644);
  expect(obstacleToHelper(undefined, path)).toContain("does not run here");
});

test("the shell's wrapper is used with HUB_WRAPPER=sh, also if another one was compiled", () => {
  expect(chooseHelper("sh", undefined)).toBeUndefined();
});

test(
  "the compiled wrapper is used where it works",
  needs(existsSync(HELPER_PATH), "the compiled wrapper was not built: there is no C compiler"),
  () => {
    expect(chooseHelper("auto", undefined)).toBe(HELPER_PATH);
    expect(chooseHelper("helper", undefined)).toBe(HELPER_PATH);
    const copy = join(tempDir(), "helper");
    copyFileSync(HELPER_PATH, copy);
    expect(obstacleToHelper(undefined, copy)).toBeUndefined();
  },
);

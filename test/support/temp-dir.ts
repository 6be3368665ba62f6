import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { onTestFinished } from "vitest";

/** An empty folder for the test that runs; it is removed with all its contents when that test has finished. */
export function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "hub-test-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

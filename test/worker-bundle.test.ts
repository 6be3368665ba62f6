import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { expect, onTestFinished, test } from "vitest";

const run = promisify(execFile);
const PROJECT = join(import.meta.dirname, "..");
const MAX_BUNDLE_BYTES = 400_000;

test("wrangler bundles the Worker, without a Node module in it, under 400 KB", async () => {
  const out = await mkdtemp(join(tmpdir(), "hub-worker-"));
  onTestFinished(() => rm(out, { recursive: true, force: true }));

  const { stdout } = await run(
    process.execPath,
    [join(PROJECT, "node_modules/wrangler/bin/wrangler.js"), "deploy", "--dry-run", "--outdir", out],
    { cwd: PROJECT, env: { ...process.env, WRANGLER_SEND_METRICS: "false", CI: "true" } },
  );

  expect(stdout).toContain("--dry-run: exiting now.");
  const bundle = await readFile(join(out, "worker.js"), "utf8");
  console.log(`The Worker's bundle: ${Buffer.byteLength(bundle)} bytes`);
  expect(Buffer.byteLength(bundle)).toBeLessThan(MAX_BUNDLE_BYTES);
  expect(bundle).not.toMatch(/["']node:|\brequire\(["']/);
});

import { readFileSync } from "node:fs";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { expect, onTestFinished, test } from "vitest";

import { makeAgentKey } from "../../../adapters/keys/agent-pair.ts";
import { bundleWorker } from "../../../adapters/edge/bundle-worker.ts";

const run = promisify(execFile);
const PROJECT = join(import.meta.dirname, "..", "..", "..");
const MAX_BUNDLE_BYTES = 400_000;

test("wrangler bundles the Worker under 400 KB, without a Node module", async () => {
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

test("a Worker whose agent key has halves of two keys answers every request with 500 and logs the reason", async () => {
  const dir = await mkdtemp(join(tmpdir(), "hub-worker-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, "worker.mjs"), await bundleWorker());
  const [{ x }, key] = [await makeAgentKey(), await makeAgentKey()];
  const env = { HUB_AGENT_URL: "http://127.0.0.1:1", HUB_AGENT_KEY: JSON.stringify({ ...key, x }) };
  const program = `
    import worker from "./worker.mjs";
    for (let i = 0; i < 2; i++) {
      const answer = await worker.fetch(new Request("http://localhost/healthz"), ${JSON.stringify(env)});
      console.log(answer.status);
    }`;
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", program], { cwd: dir });
  expect(stdout).toMatch(/^(?:\{.*HUB_AGENT_KEY: is not a private Ed25519 JWK.*\}\n500\n){2}$/);
  expect(stdout).not.toContain(key.d);
});

test("a replaced version of the Worker is not reachable at a preview address", () => {
  const settings = readFileSync(new URL("../../../wrangler.toml", import.meta.url), "utf8");
  expect(settings).toMatch(/^preview_urls = false$/m);
  // A key below a table would be that table's.
  expect(settings.indexOf("preview_urls")).toBeLessThan(settings.indexOf("\n["));
});

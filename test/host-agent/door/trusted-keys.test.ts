import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { expect, onTestFinished, test } from "vitest";

import { makeAgentKey, trustKey } from "../../../adapters/keys/agent-pair.ts";

const TRUSTED_KEYS = new URL("../../../host-agent/door/trusted-keys.ts", import.meta.url).href;

test("a key that is removed while the host has no descriptors is refused as soon as it has some, and the fault is reported once", async () => {
  const dir = await mkdtemp(join(tmpdir(), "trusted-keys-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const file = join(dir, "trusted_keys.json");
  const [kept, revoked] = [await makeAgentKey(), await makeAgentKey()];
  for (const { d: _secret, ...publicKey } of [kept, revoked]) trustKey(file, publicKey);
  const program = `
    import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
    import { openTrustedKeys } from ${JSON.stringify(TRUSTED_KEYS)};
    const file = ${JSON.stringify(file)};
    const trusted = await openTrustedKeys(file, ({ event }) => console.log(event));
    const { keys } = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ keys: keys.filter(({ kid }) => kid !== ${JSON.stringify(revoked.kid)}) }));
    const taken = [];
    try { for (;;) taken.push(openSync("/dev/null")); } catch {}
    for (let i = 0; i < 5; i++) console.log((await trusted()).size);
    taken.forEach((fd) => closeSync(fd));
    console.log([...(await trusted()).keys()].join());`;
  const { stdout } = await promisify(execFile)("sh", [
    "-c",
    'ulimit -n 64; exec "$0" --input-type=module --eval "$1"',
    process.execPath,
    program,
  ]);
  expect(stdout.trim().split("\n")).toEqual([
    "trust_file_broken",
    "2",
    "2",
    "2",
    "2",
    "2",
    "trust_changed",
    kept.kid,
  ]);
});

import { generateKeyPairSync, sign, verify } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { makeAgentKey } from "../../adapters/keys/agent-pair.ts";
import { createDoor } from "../../host-agent/door/door.ts";
import { openNonceMemory } from "../../host-agent/door/nonce-memory.ts";
import { openTrustedKeys } from "../../host-agent/door/trusted-keys.ts";
import { requestSigner } from "../../host-agent/protocol/signature.ts";
import { median } from "./figures.ts";

const URL_HERE = "http://host-agent/agent/v1/runs/run_0123456789ab?source=script";
const NAME = "host-agent";
const ROUNDS = 7;
const REQUESTS = 1_000;

/**
 * What a signed GET costs in a door with nothing behind it, and what Ed25519 alone costs for as many bytes: medians of
 * the CPU time of this process, in microseconds, measured in turn.
 */
export async function doorCost(): Promise<{ door: number; ed25519: number }> {
  const dir = mkdtempSync(join(tmpdir(), "bench-door-"));
  const key = await makeAgentKey();
  const { d: _secret, ...publicKey } = key;
  const trustFile = join(dir, "trusted_keys.json");
  writeFileSync(trustFile, JSON.stringify({ keys: [publicKey] }));
  // A clock that does not move, so that no signature gets too old on a busy machine.
  const start = Date.now();
  const nonces = openNonceMemory(join(dir, "door.mark"), () => ({ at: start, uptime: start }));
  const door = createDoor({
    answersLivez: false,
    agent: async () => new Response("ok"),
    name: NAME,
    trusted: await openTrustedKeys(trustFile, () => {}),
    nonces,
    log: (entry) => {
      throw new Error(`the door refused a request of the bench: ${JSON.stringify(entry)}`);
    },
    now: () => start,
  });
  const signRequest = await requestSigner(key, NAME, () => start);
  const head = { method: "GET", url: URL_HERE, headers: new Headers() };
  const data = Buffer.alloc(300, "x");
  const pair = generateKeyPairSync("ed25519");
  const signature = sign(null, data, pair.privateKey);

  const times = { door: [] as number[], ed25519: [] as number[] };
  for (let round = 0; round <= ROUNDS; round++) {
    const requests: Request[] = [];
    for (let i = 0; i < REQUESTS; i++) {
      requests.push({ ...head, headers: await signRequest(head) } as Request);
    }
    const inDoor = await cpuOf(async () => {
      for (const request of requests) await door(request);
    });
    const alone = await cpuOf(async () => {
      for (let i = 0; i < REQUESTS; i++) verify(null, data, pair.publicKey, signature);
    });
    // The first round warms both up.
    if (round === 0) continue;
    times.door.push(inDoor / REQUESTS);
    times.ed25519.push(alone / REQUESTS);
  }
  nonces.close();
  rmSync(dir, { recursive: true });
  return { door: median(times.door), ed25519: median(times.ed25519) };
}

async function cpuOf(work: () => Promise<void>): Promise<number> {
  const start = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(start);
  return user + system;
}

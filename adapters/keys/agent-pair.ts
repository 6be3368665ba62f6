import { readFileSync } from "node:fs";

import { type Env, readDoorConfig } from "../../host-agent/config.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { PrivateKey, type PublicKey } from "../../host-agent/protocol/signature.ts";
import { parseTrustFile, type TrustFile } from "../../host-agent/door/trusted-keys.ts";
import { FileError, replaceFile } from "./replace-file.ts";

/**
 * `npm run keys -- agent-pair`: creates a key pair, adds its public half to the
 * agent's trust file (HUB_AGENT_TRUST), and prints the private half, which is
 * stored nowhere. The keys that were trusted before stay trusted, so that no edge
 * loses access. Throws ConfigError when the file is malformed.
 */
export async function agentPair(env: Env, print: (line: string) => void): Promise<void> {
  const { trustFile } = readDoorConfig(env);
  const key = await makeAgentKey();
  const { d: _secret, ...publicKey } = key;
  const kids = trustKey(trustFile, publicKey);
  print(`${trustFile} now trusts ${kids.join(", ")}.
A running agent uses it without a restart. This is the private key ${key.kid}. It is not shown again:

${JSON.stringify(key)}

Give it to the edge:
  a Worker           npx wrangler secret put HUB_AGENT_KEY      (paste it)
  the Node adapter   HUB_AGENT_KEY=<it, or the path of a file with it, mode 0600>
When every edge uses it, remove the older keys from ${trustFile}.`);
}

/** A new Ed25519 key pair as a private JWK, named after the day it was made. */
export async function makeAgentKey(now: () => number = Date.now): Promise<PrivateKey> {
  const pair = await crypto.subtle.generateKey({ name: "Ed25519", namedCurve: "Ed25519" }, true, [
    "sign",
    "verify",
  ]);
  const day = new Date(now()).toISOString().slice(0, 10);
  const kid = `edge-${day}-${crypto.randomUUID().slice(0, 8)}`;
  const { kty, crv, x, d } = await crypto.subtle.exportKey("jwk", pair.privateKey);
  return PrivateKey.parse({ kty, crv, x, d, kid });
}

/** Adds a key to a trust file, completely or not at all, one change at a time. Returns all key ids in the file. Throws ConfigError. */
export function trustKey(path: string, key: PublicKey): string[] {
  let kids: string[] = [];
  try {
    replaceFile(path, (target) => {
      const file: TrustFile = { keys: [...readTrustFile(target).keys, key] };
      kids = file.keys.map(({ kid }) => kid);
      return `${JSON.stringify(file, null, 2)}\n`;
    });
  } catch (error) {
    throw error instanceof FileError ? new ConfigError(`HUB_AGENT_TRUST: ${error.message}`) : error;
  }
  return kids;
}

function readTrustFile(path: string): TrustFile {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { keys: [] };
    throw error;
  }
  try {
    return parseTrustFile(text);
  } catch (error) {
    throw new ConfigError(`HUB_AGENT_TRUST: ${path}: ${(error as Error).message}`);
  }
}

import { readFileSync, rmSync, writeFileSync } from "node:fs";

import { type Env, readDoorConfig } from "../../host-agent/config.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { PrivateKey, type PublicKey } from "../../host-agent/protocol/signature.ts";
import { parseTrustFile, type TrustFile } from "../../host-agent/door/trusted-keys.ts";
import { FileError, replaceFile } from "./replace-file.ts";

/** Where a new private key goes, and what is said about it. */
export interface PairOutput {
  /** Receives the private key as one line of JSON, and nothing else. */
  key(line: string): void;
  /** Receives what to do next, for a person. */
  note(text: string): void;
  /** A file that does not exist yet, which receives the key instead, with mode 0600. */
  file?: string | undefined;
}

/**
 * `npm run keys -- agent-pair`: creates a key pair, adds its public half to the
 * agent's trust file (HUB_AGENT_TRUST), and writes the private half to the output.
 * The keys that were trusted before stay trusted, so that no edge loses access.
 * Throws ConfigError when the trust file is malformed or the file of the output cannot be created.
 */
export async function agentPair(env: Env, output: PairOutput): Promise<void> {
  const { trustFile } = readDoorConfig(env);
  const key = await makeAgentKey();
  const { d: _secret, ...publicKey } = key;
  const text = JSON.stringify(key);
  // Before it is trusted: a key that nobody has must not be.
  if (output.file !== undefined) writePrivately(output.file, `${text}\n`);
  const kids = trustOrRemove(trustFile, publicKey, output.file);
  const place = output.file === undefined ? "It is not shown again:" : `It is in ${output.file}.`;
  output.note(`${trustFile} now trusts ${kids.join(", ")}.
A running agent uses it without a restart. Give the private key ${key.kid} to the edge:
  a Worker           npx wrangler secret put HUB_AGENT_KEY      (paste it)
  the Node adapter   HUB_AGENT_KEY=<it, or the path of a file with it, mode 0600>
When every edge uses it, remove the older keys from ${trustFile}.
${place}`);
  if (output.file === undefined) output.key(text);
}

function trustOrRemove(trustFile: string, key: PublicKey, file: string | undefined): string[] {
  try {
    return trustKey(trustFile, key);
  } catch (error) {
    if (file !== undefined) rmSync(file, { force: true });
    throw error;
  }
}

function writePrivately(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: "wx", mode: 0o600, flush: true });
  } catch (error) {
    throw new ConfigError(
      `--out: ${path} cannot be created: ${(error as NodeJS.ErrnoException).code}. Name a file that does not exist yet. No key was made`,
    );
  }
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

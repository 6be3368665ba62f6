import { createPublicKey, verify } from "node:crypto";
import { readFile } from "node:fs/promises";

import * as z from "zod";

import { withoutByteOrderMark } from "../protocol/byte-order-mark.ts";
import { ConfigError } from "../system/config-error.ts";
import { fileVersion, MISSING } from "../system/file-version.ts";
import type { Log } from "../system/log-line.ts";
import { watchFile } from "../system/watched-file.ts";
import { jsonFault } from "../protocol/json-fault.ts";
import { parseStrictJson } from "../protocol/strict-json.ts";
import { PublicKey, type TrustedKeys } from "../protocol/signature.ts";

/** The file of the public keys whose owners may talk to the agent. */
export const TrustFile = z.object({
  keys: z
    .array(PublicKey)
    .refine((keys) => new Set(keys.map((key) => key.kid)).size === keys.length, "must not hold a kid twice"),
});
export type TrustFile = z.infer<typeof TrustFile>;

const HOW_TO_PAIR = "`npm run keys -- agent-pair` makes a key pair and trusts it";

/**
 * The trusted keys of the file at `path`, read again when it has changed. When
 * it is removed or malformed the last good ones stay. At the start it must exist
 * with a key in it, or ConfigError is thrown.
 */
export async function openTrustedKeys(path: string, log: Log): Promise<() => Promise<TrustedKeys>> {
  const version = fileVersion(path);
  const initial = await readFile(path, "utf8")
    .then(trustedKeys)
    .catch(({ message }: Error) => {
      const fault = version === MISSING ? `there is no ${path}` : `${path}: ${message}`;
      throw new ConfigError(`HUB_AGENT_TRUST: ${fault}. ${HOW_TO_PAIR}`);
    });
  if (initial.size === 0) throw new ConfigError(`HUB_AGENT_TRUST: ${path} trusts no key. ${HOW_TO_PAIR}`);

  return watchFile<TrustedKeys>(path, {
    initial,
    version,
    parse: trustedKeys,
    onLoaded(keys) {
      log({ level: "info", event: "trust_changed", keys: [...keys.keys()] });
    },
    onFault({ error }, last) {
      log({
        level: "error",
        event: "trust_file_broken",
        detail: "the last good keys stay trusted",
        error: `${path}: ${error.message}`,
      });
      return last;
    },
  }).current;
}

/** Parses the text of a trust file. Throws an Error that says what is wrong where. */
export function parseTrustFile(text: string): TrustFile {
  const parsed = TrustFile.safeParse(readJson(withoutByteOrderMark(text)));
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return parsed.data;
}

/** The fault is thrown without its cause, whose message quotes the text. */
function readJson(text: string): unknown {
  let fault: Error;
  try {
    return parseStrictJson(text);
  } catch (error) {
    fault = error instanceof SyntaxError ? new Error(jsonFault(error, text)) : (error as Error);
  }
  throw fault;
}

function trustedKeys(text: string): TrustedKeys {
  return importTrustedKeys(parseTrustFile(text).keys);
}

/** Imports public keys, once for all the requests that they will verify. Throws for a key that is not valid. */
export function importTrustedKeys(keys: readonly PublicKey[]): TrustedKeys {
  return new Map(
    keys.map(({ kty, crv, x, kid }) => {
      const key = createPublicKey({ key: { kty, crv, x }, format: "jwk" });
      // Not WebCrypto: its way over the thread pool costs more than this thread would spend on the rest of the check.
      return [kid, { algorithm: "ed25519", verify: (base, signature) => verify(null, base, key, signature) }];
    }),
  );
}

import { readFileSync } from "node:fs";

import * as z from "zod";

import { ConfigError } from "../system/config-error.ts";
import { isUnableToLook } from "../system/exhaustion.ts";
import { fileVersion, MISSING } from "../system/file-version.ts";
import type { Log } from "../system/logger.ts";
import { importTrustedKeys, PublicKey, type TrustedKeys } from "../protocol/signature.ts";

/** The file of the public keys whose owners may talk to the agent. */
export const TrustFile = z.object({
  keys: z
    .array(PublicKey)
    .refine((keys) => new Set(keys.map((key) => key.kid)).size === keys.length, "must not hold a kid twice"),
});
export type TrustFile = z.infer<typeof TrustFile>;

/**
 * The trusted keys of the file at `path`, read again when it has changed. When
 * it is gone or malformed the last good ones stay; at the start it must be there
 * with a key in it, or ConfigError is thrown.
 */
export async function openTrustedKeys(path: string, log: Log) {
  let version = fileVersion(path);
  let trusted = await read(path).catch((error: Error) => {
    const fault = version === MISSING ? `there is no ${path}` : error.message;
    throw new ConfigError(`HUB_AGENT_TRUST: ${fault}. ${HOW_TO_PAIR}`);
  });
  if (trusted.size === 0) throw new ConfigError(`HUB_AGENT_TRUST: ${path} trusts no key. ${HOW_TO_PAIR}`);

  /** What was said of the file as it is: the same is not said again. */
  let fault: string | undefined;

  async function refresh(current: string): Promise<void> {
    version = current;
    try {
      trusted = await read(path);
      fault = undefined;
      log({ level: "info", event: "trust_changed", keys: [...trusted.keys()] });
    } catch (error) {
      // The very key that is not to be trusted any more may be gone from there: it is not over with one look.
      if (isUnableToLook((error as Error).cause)) version = UNREAD;
      if ((error as Error).message === fault) return;
      fault = (error as Error).message;
      log({
        level: "error",
        event: "trust_file_broken",
        detail: "the last good keys stay trusted",
        error: String(error),
      });
    }
  }

  let refreshing: Promise<void> | undefined;
  return async (): Promise<TrustedKeys> => {
    const current = fileVersion(path);
    if (current !== version) refreshing ??= refresh(current).finally(() => (refreshing = undefined));
    await refreshing;
    return trusted;
  };
}

/** Unlike the version of any file. */
const UNREAD = "unread";
const HOW_TO_PAIR = "`npm run keys -- agent-pair` makes a key pair and trusts it";

/** Parses the text of a trust file. Throws an Error that says what is wrong where. */
export function parseTrustFile(text: string): TrustFile {
  const parsed = TrustFile.safeParse(JSON.parse(text));
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return parsed.data;
}

async function read(path: string): Promise<TrustedKeys> {
  try {
    return await importTrustedKeys(parseTrustFile(readFileSync(path, "utf8")).keys);
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

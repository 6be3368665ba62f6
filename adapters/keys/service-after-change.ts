import { setTimeout as sleep } from "node:timers/promises";

import type { Env } from "../../host-agent/config.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { modeOfHub, originOf } from "../client/mode-of-hub.ts";
import { readAddress } from "../node/config.ts";

/** A running service uses a change within a second. */
const CHANGE_IN_FORCE_MS = 1_500;
const LOOK_INTERVAL_MS = 250;

/**
 * Whether the service at the address of this environment uses the keys of `file`, in sentences, as far as that can
 * be known: a service reports its mode, and not the name of its keys file. The key itself is sent nowhere, because
 * another program may have the port.
 */
export async function serviceAfterChange(env: Env, file: string): Promise<string> {
  const origin = originFrom(env);
  if (origin === undefined) return `A service that is started with HUB_KEYS_FILE=${file} requires a key.`;
  let mode = await modeOfHub(origin);
  for (let waited = 0; mode === "dev" && waited < CHANGE_IN_FORCE_MS; waited += LOOK_INTERVAL_MS) {
    await sleep(LOOK_INTERVAL_MS);
    mode = await modeOfHub(origin);
  }
  if (mode === undefined) {
    return `No service answers at ${origin}. One that is started with HUB_KEYS_FILE=${file} requires a key.`;
  }
  if (mode === "enforced") {
    return (
      `The service at ${origin} requires API keys. If it refuses this one with 401, it uses another keys file: ` +
      "the line `mode` that it printed at its start names its file."
    );
  }
  return (
    `The service at ${origin} does not use this file: its mode is ${mode}. ` +
    `Start it again with HUB_KEYS_FILE=${file}, or add the key to the file that its line \`mode\` names (--file).`
  );
}

/** Undefined when the settings of this environment are not those of a service. */
function originFrom(env: Env): string | undefined {
  try {
    return originOf(readAddress(env));
  } catch (error) {
    if (error instanceof ConfigError) return undefined;
    throw error;
  }
}

import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ConfigError } from "../../host-agent/system/config-error.ts";

/**
 * Remembers in the state folder that this Hub has had API keys, over restarts: a
 * keys file that is not where it was, or a mistyped path to it, must not open the
 * Hub to everybody.
 */
export function keysSeen(stateDir: string) {
  const mark = join(stateDir, "keys_seen");
  return {
    /** Throws ConfigError when there were keys before, and the file is gone. */
    refuseMissing(keysFile: string): void {
      if (existsSync(keysFile) || !existsSync(mark)) return;
      throw new ConfigError(
        `HUB_KEYS_FILE: there is no ${keysFile}, and this Hub had API keys before: without them everybody could launch. ` +
          'Put the file back or name the right one; or write {"keys": []} into it if that is what you want',
      );
    },
    /** Takes down what a file that is there says: keys, or on purpose none. The folder is made if it is missing. */
    note(mode: string): void {
      if (mode === "dev") rmSync(mark, { force: true });
      if (mode !== "enforced" || existsSync(mark)) return;
      mkdirSync(stateDir, { recursive: true, mode: 0o700 });
      writeFileSync(mark, "", { mode: 0o600 });
    },
  };
}

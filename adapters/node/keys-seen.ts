import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ConfigError } from "../../host-agent/system/config-error.ts";
import { makeFolder } from "../../host-agent/system/make-folder.ts";

/**
 * Remembers in the state folder, over restarts, that this Hub has had API keys: a
 * keys file that was moved, or a typing error in its path, must not open the Hub to
 * everyone.
 */
export function keysSeen(stateDir: string) {
  const mark = join(stateDir, "keys_seen");
  return {
    /** Throws ConfigError when the Hub had keys before, and the file does not exist. */
    refuseMissing(keysFile: string): void {
      if (existsSync(keysFile) || !existsSync(mark)) return;
      throw new ConfigError(
        `HUB_KEYS_FILE: ${keysFile} does not exist, and this Hub had API keys before. Without keys everyone could launch. ` +
          'Restore the file or correct the path. To run without keys on purpose, write {"keys": []} into it',
      );
    },
    /** Records what an existing file has: keys, or on purpose none. Creates the folder if it does not exist. */
    note(mode: string): void {
      if (mode === "dev") rmSync(mark, { force: true });
      if (mode !== "enforced" || existsSync(mark)) return;
      makeFolder(stateDir);
      writeFileSync(mark, "", { mode: 0o600 });
    },
  };
}

import { isUnableToLook } from "../system/exhaustion.ts";
import { folderOwner, type RunFolder } from "./run-folder.ts";
import type { Owner } from "./send-signal.ts";

/**
 * The user of a run when it is another than ours: the owner of its folder, whatever `HUB_RUN_AS` has become since its
 * launch. `configured` counts for a run without a folder. Undefined for our own user. Only root can act as another.
 */
export function otherOwner(folder: RunFolder, configured: Owner | undefined): Owner | undefined {
  const self = process.geteuid!();
  if (self !== 0) return undefined;
  const owner = ownerOrUndefined(folder) ?? configured;
  return owner?.uid === self ? undefined : owner;
}

function ownerOrUndefined(folder: RunFolder): Owner | undefined {
  try {
    return folderOwner(folder);
  } catch (error) {
    if (isUnableToLook(error)) throw error;
    return undefined;
  }
}

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import type { Assets } from "../../handlers/pages.ts";

/** Where adapters/build.ts puts the pages. */
export const PAGES_FOLDER = join(import.meta.dirname, "..", "dist");

/** A page that was built again is served after so long at the latest. */
const SHARED_FOR_MS = 1_000;

/** The built files of a folder, with their Brotli version where there is one and the client takes it. */
export function folderAssets(folder: string): Assets {
  const read = sharedReads();
  return async (name, acceptEncoding) => {
    if (/\bbr\b/.test(acceptEncoding)) {
      const compressed = await read(join(folder, `${name}.br`));
      if (compressed) return { bytes: compressed, encoding: "br" };
    }
    const bytes = await read(join(folder, name));
    return bytes && { bytes };
  };
}

/** Answers that are sent at one time share their bytes: strangers may ask for the largest file as often as they like. */
function sharedReads(): typeof readIfThere {
  const recent = new Map<string, ReturnType<typeof readIfThere>>();
  return async (path) => {
    let reading = recent.get(path);
    if (!reading) {
      reading = readIfThere(path);
      recent.set(path, reading);
      setTimeout(() => recent.delete(path), SHARED_FOR_MS).unref();
    }
    return reading;
  };
}

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
}

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import type { Assets } from "../../handlers/pages.ts";

/** Where adapters/build.ts puts the pages. */
export const PAGES_FOLDER = join(import.meta.dirname, "..", "dist");

/** A page that was built again is served after this time at the latest. */
const SHARED_FOR_MS = 1_000;

/** The built files of a folder, with their Brotli version if it exists and the client accepts it. */
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

/** Answers that are sent at the same time share their bytes: anyone may request the largest file any number of times. */
function sharedReads(): typeof readIfExists {
  const recent = new Map<string, ReturnType<typeof readIfExists>>();
  return async (path) => {
    let reading = recent.get(path);
    if (!reading) {
      reading = readIfExists(path);
      recent.set(path, reading);
      setTimeout(() => recent.delete(path), SHARED_FOR_MS).unref();
    }
    return reading;
  };
}

async function readIfExists(path: string): Promise<Uint8Array | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
}

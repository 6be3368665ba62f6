import { readFile } from "node:fs/promises";
import { join } from "node:path";

import type { Assets } from "../handlers/pages.ts";

/** Where adapters/build.ts puts the pages. */
export const PAGES_FOLDER = join(import.meta.dirname, "dist");

/** The built files of a folder, with their Brotli version where there is one and the client takes it. */
export function folderAssets(folder: string): Assets {
  return async (name, acceptEncoding) => {
    if (/\bbr\b/.test(acceptEncoding)) {
      const compressed = await readIfThere(join(folder, `${name}.br`));
      if (compressed) return { bytes: compressed, encoding: "br" };
    }
    const bytes = await readIfThere(join(folder, name));
    return bytes && { bytes };
  };
}

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
}

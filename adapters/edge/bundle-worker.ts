import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const WORKER_TS = fileURLToPath(new URL("../workers/worker.ts", import.meta.url));

let bundle: Promise<string> | undefined;

/** The Worker as one ES module, bundled the way wrangler does it; once for a process. */
export function bundleWorker(): Promise<string> {
  bundle ??= makeBundle();
  return bundle;
}

async function makeBundle(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [WORKER_TS],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    logLevel: "warning",
  });
  return outputFiles[0]!.text;
}

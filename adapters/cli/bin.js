#!/usr/bin/env node
// Plain JavaScript that any Node can read, so that an old Node prints a sentence and not a syntax error.
import module from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 16)) {
  process.stderr.write(
    `hub: needs Node 24.16 or newer, but this is ${process.version}. Install a newer Node, or use the one in node_modules/.bin of a clone\n`,
  );
  process.exitCode = 69;
} else {
  // Compiling is a third of the start. The cache is in the user's own folder: other users can write to /tmp.
  const cache = cacheFolder();
  if (cache !== undefined) module.enableCompileCache(join(cache, "serveraihub", "cli"));
  await import("./main.ts");
}

/** Undefined for a user without a home folder: the start then takes a little longer. */
function cacheFolder() {
  try {
    return process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  } catch {
    return undefined;
  }
}

import { readFileSync } from "node:fs";

/** A clock that runs ahead of the real one by as many milliseconds as the file at `path` says. */
export function offsetClock(path: string): () => number {
  return () => Date.now() + Number(readFileSync(path, "utf8"));
}

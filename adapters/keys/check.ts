import type { Scope } from "../../handlers/auth.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { KeysError, readKeys } from "./editing.ts";
import { allows, isOver } from "./rights.ts";

/** What each operation needs, in the words of a person. */
const OPERATIONS: readonly [string, Scope, keyof typeof EVERYTHING][] = [
  ["list recipes, read their runs and logs", "pipelines:read", "recipes"],
  ["launch recipes, kill their runs", "pipelines:write", "recipes"],
  ["list and read scripts, read their runs and logs", "scripts:read", "script_paths"],
  ["launch scripts, kill their runs", "scripts:write", "script_paths"],
];
const EVERYTHING = { recipes: "all recipes", script_paths: "all scripts under the script roots" };

/** What this key of the keys file may do, as lines of text. Throws KeysError for a key that is not in the file. */
export async function checkKey(file: string, key: string): Promise<string> {
  const { keys } = readKeys(file);
  if (keys.length === 0) {
    throw new KeysError(
      `${file} has no keys: a Hub with this file serves everyone, without a key (dev mode)`,
    );
  }
  const hash = sha256(key);
  const entry = keys.find((each) => (each.key_sha256 ?? sha256(each.key!)) === hash);
  if (entry === undefined) throw new KeysError(`The key is not in ${file}: a Hub with this file refuses it`);
  const { renderTable } = await import("../client/table.ts");
  const rows = OPERATIONS.map(([what, scope, field]) => {
    if (!allows(entry, scope) || isOver(entry)) return [what, "no", "-"];
    return [what, "yes", entry[field]?.join(", ") ?? EVERYTHING[field]];
  });
  const state = isOver(entry)
    ? `expired (${entry.expires}): every request is refused`
    : `expires ${entry.expires ?? "never"}`;
  const runs = entry.runs === "own" ? `only those launched as ${entry.name}` : "of all keys";
  return `${entry.name}: ${state}\nruns: ${runs}\n\n${await renderTable(["WHAT", "MAY", "ONLY"], rows)}`;
}

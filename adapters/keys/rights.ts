import { ALL_SCOPES, type Scope, SCOPES } from "../../handlers/auth.ts";
import { expiryTime, type KeyFileEntry } from "../../handlers/keys.ts";

/** True for a key with this scope. */
export function allows({ scopes }: KeyFileEntry, scope: Scope): boolean {
  return scopes.includes(scope) || scopes.includes(ALL_SCOPES);
}

/** True for a key that has expired. */
export function isOver({ expires }: KeyFileEntry): boolean {
  return (expiryTime(expires) ?? Number.POSITIVE_INFINITY) <= Date.now();
}

/** What a key can reach, in a few words. */
export function reachText({ recipes, script_paths, runs }: KeyFileEntry): string {
  const parts = [...(recipes ?? []), ...(script_paths ?? []), ...(runs === "own" ? ["own runs"] : [])];
  return parts.length === 0 ? "all" : parts.join(" ");
}

/** A sentence for a key that is limited on one surface and open on the other one: that is easily overlooked. */
export function openSurface(entry: KeyFileEntry): string | undefined {
  const { recipes, script_paths } = entry;
  if ((recipes === undefined) === (script_paths === undefined)) return undefined;
  const [surface, option, what] =
    recipes === undefined
      ? (["pipelines", "--recipes", "recipe"] as const)
      : (["scripts", "--script-paths", "script"] as const);
  const isOpen = SCOPES.some((scope) => scope.startsWith(`${surface}:`) && allows(entry, scope));
  return isOpen
    ? `Note: ${option} is not given, so the key ${entry.name} reaches every ${what} that its scopes allow.`
    : undefined;
}

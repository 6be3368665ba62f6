const KEY = "hub.key";

/** The API key of this tab. It is in sessionStorage only: not in a URL or a cookie, and not kept beyond the tab. */
export function keyOfThisTab(): string | undefined {
  return sessionStorage.getItem(KEY) ?? undefined;
}

/** Stores the key for this tab; undefined removes it. */
export function keepKey(key: string | undefined): void {
  if (key === undefined) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

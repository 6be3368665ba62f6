const KEY = "hub.key";

/** The API key of this tab. It lives in sessionStorage only: not in a URL, a cookie, or beyond the tab. */
export function keyOfThisTab(): string | undefined {
  return sessionStorage.getItem(KEY) ?? undefined;
}

/** Keeps the key for this tab; undefined forgets it. */
export function keepKey(key: string | undefined): void {
  if (key === undefined) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

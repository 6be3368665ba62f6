/**
 * The same work, shared by callers that ask for the same thing at the same time: of each `key` one
 * is under way, and at most one follows it. A caller never gets what began before its call.
 */
export function shareWalks<T>(walk: (key: string | undefined) => Promise<T>) {
  const underWay = new Map<string | undefined, Promise<T>>();
  const following = new Map<string | undefined, Promise<T>>();

  function begin(key: string | undefined): Promise<T> {
    const begun = walk(key).finally(() => underWay.delete(key));
    underWay.set(key, begun);
    return begun;
  }

  return (key: string | undefined): Promise<T> => {
    const current = underWay.get(key);
    if (!current) return begin(key);
    const known = following.get(key);
    if (known) return known;
    const next = current
      .catch(() => undefined)
      .then(() => {
        following.delete(key);
        return begin(key);
      });
    following.set(key, next);
    return next;
  };
}

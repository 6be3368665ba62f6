/**
 * The same work, shared by callers that ask for the same thing at the same time: of each `key` one
 * is under way, and at most one follows it. A caller never gets what began before its call.
 */
export function shareWalks<T>() {
  const underWay = new Map<string, Promise<T>>();
  const following = new Map<string, Promise<T>>();

  function begin(key: string, walk: () => Promise<T>): Promise<T> {
    const begun = walk().finally(() => underWay.delete(key));
    underWay.set(key, begun);
    return begun;
  }

  return (key: string, walk: () => Promise<T>): Promise<T> => {
    const current = underWay.get(key);
    if (!current) return begin(key, walk);
    const known = following.get(key);
    if (known) return known;
    const next = current
      .catch(() => undefined)
      .then(() => {
        following.delete(key);
        return begin(key, walk);
      });
    following.set(key, next);
    return next;
  };
}

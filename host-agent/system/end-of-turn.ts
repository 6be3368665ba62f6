/**
 * Collects the items of one turn of the event loop, and passes them to `work`
 * together at its end. Each call resolves with the result of its item: `work` returns
 * the results in the order of the items. When `work` throws, each call rejects with that error.
 */
export function atEndOfTurn<Item, Result>(
  work: (items: readonly Item[]) => readonly Result[],
): (item: Item) => Promise<Result> {
  let waiting: { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void }[] = [];

  function workOff(): void {
    const turn = waiting;
    waiting = [];
    try {
      const results = work(turn.map(({ item }) => item));
      for (const [i, { resolve }] of turn.entries()) resolve(results[i]!);
    } catch (error) {
      for (const { reject } of turn) reject(error);
    }
  }

  return async (item) => {
    if (waiting.length === 0) setImmediate(workOff);
    return new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject });
    });
  };
}

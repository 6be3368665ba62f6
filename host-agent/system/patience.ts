/** How long things have failed, by name. */
export interface Patience {
  /** Notes a failure; true once this thing has failed for the whole time, without a success in between. */
  isOver(name: string): boolean;
  /** Notes a success. */
  clear(name: string): void;
}

/** Patience for `limitMs`, on the clock of this process: it begins again with each process. */
export function createPatience(limitMs: number): Patience {
  const failingSince = new Map<string, number>();
  return {
    isOver(name) {
      const now = performance.now();
      const since = failingSince.get(name) ?? now;
      failingSince.set(name, since);
      return now - since >= limitMs;
    },
    clear: (name) => void failingSince.delete(name),
  };
}

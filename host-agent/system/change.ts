/** Something that changes again and again, and is waited for. */
export interface Change {
  /** Resolves at the next change after this call. Call it before looking, so that no change falls in between. */
  next(): Promise<void>;
}

/** A change, and `wake`, which makes it happen. */
export function createChange(): Change & { wake(): void } {
  let upcoming = Promise.withResolvers<void>();
  return {
    next: () => upcoming.promise,
    wake() {
      upcoming.resolve();
      upcoming = Promise.withResolvers();
    },
  };
}

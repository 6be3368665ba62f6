/** Random choices that one seed decides. */
export type Random = ReturnType<typeof seededRandom>;

/** The generator "mulberry32": good enough to choose, and the same everywhere. */
export function seededRandom(seed: number) {
  let state = seed >>> 0;
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }
  return {
    /** A whole number from `least` to `most`, both included. */
    between: (least: number, most: number) => least + Math.floor(next() * (most - least + 1)),
    chance: (probability: number) => next() < probability,
    pick: <T>(values: readonly T[]): T => values[Math.floor(next() * values.length)]!,
    /** A separate generator, so that concurrent work does not take each other's numbers. */
    fork: () => seededRandom(Math.floor(next() * 4_294_967_296)),
  };
}

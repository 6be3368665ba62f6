/** One line of the table: what was measured, against what, and what was promised. */
export interface Figure {
  what: string;
  measured: string;
  baseline: string;
  ratio: number;
  /** The least or the most the ratio may be; null where nothing is promised. */
  promise: { atLeast: number } | { atMost: number } | null;
}

/** The figures as a table for people, with a mark on each promise that does not hold. */
export function table(figures: readonly Figure[]): string {
  const rows = figures.map(({ what, measured, baseline, ratio, promise }) => {
    const line = [what, measured, baseline, ratio.toFixed(2)];
    if (promise === null) return [...line, "none", ""];
    const isKept = "atLeast" in promise ? ratio >= promise.atLeast : ratio <= promise.atMost;
    const bound = "atLeast" in promise ? `>= ${promise.atLeast}` : `<= ${promise.atMost}`;
    return [...line, bound, isKept ? "kept" : "BROKEN"];
  });
  const all = [["what", "measured", "baseline", "ratio", "promise", ""], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ")).join("\n");
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** The median of the durations in milliseconds, and how many were done a second. */
export interface Times {
  p50: number;
  perSecond: number;
}

/** How long each of `count` calls takes, in milliseconds, `concurrency` at a time; and the calls a second. */
export async function time(count: number, concurrency: number, work: () => Promise<unknown>): Promise<Times> {
  const durations: number[] = [];
  let started = 0;
  const begin = performance.now();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (started++ < count) {
        const start = performance.now();
        await work();
        durations.push(performance.now() - start);
      }
    }),
  );
  return { p50: median(durations), perSecond: (durations.length * 1000) / (performance.now() - begin) };
}

/** One line of the table: what was measured, against what, and what was promised. */
export interface Figure {
  what: string;
  measured: string;
  baseline: string;
  ratio: number;
  /** The least or the most the ratio may be; null where nothing is promised. */
  promise: { atLeast: number } | { atMost: number } | null;
}

/** Ratios of an earlier run of the bench, by what was measured. */
export type Ratios = Record<string, number>;

/** A ratio that differs by less is noise. */
const NOISE = 0.15;

/**
 * The figures as a table for people, next to the ratios of an earlier run: with a mark on each promise that does not hold,
 * and on each ratio that got worse by more than 15 %.
 */
export function table(figures: readonly Figure[], previous: Ratios = {}): string {
  const rows = figures.map((figure) => {
    const { what, measured, baseline, ratio, promise } = figure;
    const before = previous[what];
    const line = [what, measured, baseline, ratio.toFixed(2), before?.toFixed(2) ?? "none"];
    return [...line, boundOf(promise), marksOf(figure, before)];
  });
  const all = [["what", "measured", "baseline", "ratio", "previous", "promise", ""], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function boundOf(promise: Figure["promise"]): string {
  if (promise === null) return "none";
  return "atLeast" in promise ? `>= ${promise.atLeast}` : `<= ${promise.atMost}`;
}

function marksOf({ ratio, promise }: Figure, before: number | undefined): string {
  if (promise === null) return "";
  const isMost = "atMost" in promise;
  const isKept = isMost ? ratio <= promise.atMost : ratio >= promise.atLeast;
  const isWorse =
    before !== undefined && (isMost ? ratio > before * (1 + NOISE) : ratio < before * (1 - NOISE));
  return [isKept ? "kept" : "BROKEN", ...(isWorse ? ["worse than before"] : [])].join(", ");
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

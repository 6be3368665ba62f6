import { readFileSync, writeFileSync } from "node:fs";

import type { Figure, Ratios } from "./figures.ts";

const FILE = new URL("previous.json", import.meta.url);

/** The ratios that the last landing kept in test/bench/previous.json. */
export function previousRatios(): Ratios {
  return JSON.parse(readFileSync(FILE, "utf8")) as Ratios;
}

/** Keeps the ratios of these figures for the next landing; those of other figures stay. */
export function keepRatios(figures: readonly Figure[]): void {
  const measured = figures.map(({ what, ratio }) => [what, Number(ratio.toFixed(3))] as const);
  const kept = { ...previousRatios(), ...Object.fromEntries(measured) };
  writeFileSync(FILE, `${JSON.stringify(kept, undefined, 2)}\n`);
}

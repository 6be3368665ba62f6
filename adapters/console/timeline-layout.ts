import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { nameOf } from "./format.ts";

/** A run in the plot, in pixels from the left edge of the plot. */
export interface Bar {
  run: RunRecord;
  x: number;
  width: number;
  lane: number;
}

/** The runs of one recipe or script. */
export interface Group {
  key: string;
  /** A script whose name is not unique is called by its path. */
  name: string;
  lanes: number;
  bars: Bar[];
}

const MAX_GROUPS = 14;
const MAX_LANES = 5;
const MIN_BAR_WIDTH = 4;

interface Plot {
  /** Epoch seconds. */
  from: number;
  to: number;
  /** Pixels. */
  width: number;
}

/**
 * Puts runs, newest first, into rows by recipe or script and lanes by time. Runs that
 * would overlap are put in separate lanes, up to MAX_LANES; a run that
 * covers the same pixels as another one with its status is not drawn.
 */
export function layOut(runs: RunRecord[], { from, to, width }: Plot): Group[] {
  const byTarget = Map.groupBy(runs, targetOf);
  const names = [...byTarget.values()].map(([run]) => nameOf(run!));
  const all = [...byTarget].map(([key, list], i) => {
    const { spec } = list[0]!;
    const isUnique = names.indexOf(names[i]!) === names.lastIndexOf(names[i]!);
    return { key, name: isUnique || !("path" in spec) ? names[i]! : spec.path, list };
  });
  const shown = all.slice(0, MAX_GROUPS);
  const rest = all.slice(MAX_GROUPS).flatMap(({ list }) => list);
  if (rest.length > 0) shown.push({ key: "", name: `${all.length - MAX_GROUPS} others`, list: rest });

  const scale = width / (to - from);
  return shown.map(({ key, name, list }) => {
    const laneEnds: number[] = [];
    const taken = new Set<string>();
    const bars: Bar[] = [];
    for (const run of list.toReversed()) {
      const x = Math.min(width - MIN_BAR_WIDTH, Math.max(0, (run.started_at - from) * scale));
      const end = Math.min(width, Math.max(x + MIN_BAR_WIDTH, ((run.ended_at ?? to) - from) * scale));
      const free = laneEnds.findIndex((laneEnd) => laneEnd <= x);
      const lane = free >= 0 ? free : Math.min(laneEnds.length, MAX_LANES - 1);
      laneEnds[lane] = Math.max(laneEnds[lane] ?? 0, end + 1);
      const pixels = `${Math.round(x)}:${Math.round(end)}:${lane}:${run.status}`;
      if (taken.has(pixels)) continue;
      taken.add(pixels);
      bars.push({ run, x, width: end - x, lane });
    }
    return { key, name, lanes: laneEnds.length, bars };
  });
}

/** What was launched: two folders may have scripts of one name. */
function targetOf({ source, spec }: RunRecord): string {
  return `${source} ${"recipe_id" in spec ? spec.recipe_id : spec.path}`;
}

/** A tick in pixels, with the middle of its label; undefined where that would touch the next label. */
export interface PlacedTick {
  at: number;
  label: string;
  x: number;
  labelX: number | undefined;
}

/** About the width of a character of a label, in pixels, and the least gap between two labels. */
const CHARACTER_WIDTH = 6.2;
const LABEL_GAP = 6;

/** The ticks of a plot, each label inside it and clear of the others; where two collide, the later one stays. */
export function placeTicks({ from, to, width }: Plot): PlacedTick[] {
  let free = width;
  return ticksOf(from, to)
    .toReversed()
    .map(({ at, label }) => {
      const x = ((at - from) / (to - from)) * width;
      const half = (label.length * CHARACTER_WIDTH) / 2;
      const middle = Math.max(half, Math.min(x, width - half));
      if (middle + half > free) return { at, label, x, labelX: undefined };
      free = middle - half - LABEL_GAP;
      return { at, label, x, labelX: middle };
    })
    .toReversed();
}

const STEPS_SECONDS = [600, 900, 3_600, 7_200, 14_400, 21_600, 86_400];
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

/** Round local times between two moments, at most eight. */
export function ticksOf(from: number, to: number): { at: number; label: string }[] {
  const step = STEPS_SECONDS.find((seconds) => (to - from) / seconds <= 7) ?? 86_400;
  const day = new Date(from * 1000);
  const format = step === 86_400 ? DAY : CLOCK;
  const ticks: { at: number; label: string }[] = [];
  for (let clock = 0; ; clock += step) {
    // By the clock from the first day's midnight on: a day may have 23 hours, and an hour may be left out.
    const date = new Date(day.getFullYear(), day.getMonth(), day.getDate(), 0, 0, clock);
    const at = date.getTime() / 1000;
    if (at > to) return ticks;
    if (at >= from && at !== ticks.at(-1)?.at) ticks.push({ at, label: format.format(date) });
  }
}

import type { RunRecord } from "../../host-agent/protocol/run.ts";

/** The recipe's id or the script's file name. */
export function nameOf({ spec }: Pick<RunRecord, "spec">): string {
  return "recipe_id" in spec ? spec.recipe_id : spec.path.slice(spec.path.lastIndexOf("/") + 1);
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY_AND_CLOCK = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
});
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** The time of day, with the date if it is not today. */
export function shortTime(epochSeconds: number, nowMs: number): string {
  const date = new Date(epochSeconds * 1000);
  const isToday = date.toDateString() === new Date(nowMs).toDateString();
  return (isToday ? CLOCK : DAY_AND_CLOCK).format(date);
}

/** Date and time with the zone. */
export function fullTime(epochSeconds: number): string {
  return FULL.format(new Date(epochSeconds * 1000));
}

/** `1 run`, `2 runs`. */
export function count(n: number, noun: string): string {
  return `${n.toLocaleString()} ${noun}${n === 1 ? "" : "s"}`;
}

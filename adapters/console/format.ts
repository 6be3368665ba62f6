import type { RunRecord } from "../../host-agent/protocol/run.ts";

/** The recipe's id or the script's file name. */
export function nameOf({ spec }: Pick<RunRecord, "spec">): string {
  return "recipe_id" in spec ? spec.recipe_id : spec.path.slice(spec.path.lastIndexOf("/") + 1);
}

/** `0.4 s` is not known here, the API counts seconds: `5s`, `3m 05s`, `2h 04m`, `3d 01h`. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3_600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3_600)}h ${two(Math.floor((s % 3_600) / 60))}m`;
  return `${Math.floor(s / 86_400)}d ${two(Math.floor((s % 86_400) / 3_600))}h`;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

/** How long the run took, or has taken so far. */
export function durationOf({ started_at, ended_at }: RunRecord, nowMs: number): string {
  return duration((ended_at ?? nowMs / 1000) - started_at);
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY_AND_CLOCK = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
});
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** Today's times without the day. */
export function shortTime(epochSeconds: number, nowMs: number): string {
  const date = new Date(epochSeconds * 1000);
  const isToday = date.toDateString() === new Date(nowMs).toDateString();
  return (isToday ? CLOCK : DAY_AND_CLOCK).format(date);
}

export function fullTime(epochSeconds: number): string {
  return FULL.format(new Date(epochSeconds * 1000));
}

/** `512 B`, `4.0 KB`, `200.0 MB`: powers of 1024. */
export function byteCount(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KB", "MB", "GB", "TB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** `1 run`, `2 runs`. */
export function count(n: number, noun: string): string {
  return `${n.toLocaleString()} ${noun}${n === 1 ? "" : "s"}`;
}

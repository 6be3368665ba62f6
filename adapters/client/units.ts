/** `512 B`, `34.1 kB`, `1.2 GB`: powers of 1000. */
export function byteCount(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** `42s`, `3m07s`, `2h05m`, `3d04h`: whole seconds, the API's unit, rounded down; one word, so that a column of a list is one field. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3_600)}h${two((whole % 3_600) / 60)}m`;
  return `${Math.floor(whole / 86_400)}d${two((whole % 86_400) / 3_600)}h`;
}

/** How long a run took, or has been running for at the time `nowMs` of this machine's clock. */
export function runDuration(run: { started_at: number; ended_at: number | null }, nowMs: number): string {
  return duration((run.ended_at ?? nowMs / 1000) - run.started_at);
}

function two(value: number): string {
  return String(Math.floor(value)).padStart(2, "0");
}

const UNITS_MS: Record<string, number> = { d: 86_400_000, h: 3_600_000, m: 60_000 };

/** The time that is `90d`, `12h` or `30m` from now, as a keys file has it; undefined for any other text. */
export function timeFromNow(text: string): string | undefined {
  const [, count, unit = ""] = /^(\d{1,5})([dhm])$/.exec(text) ?? [];
  if (count === undefined) return undefined;
  const time = new Date(Date.now() + Number(count) * UNITS_MS[unit]!);
  return `${time.toISOString().slice(0, 19)}Z`;
}

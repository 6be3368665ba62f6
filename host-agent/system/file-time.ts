/** What a Date takes, in milliseconds on both sides of 1970 (ECMA-262, 21.4.1.1). */
const MAX_DATE_MS = 8_640_000_000_000_000;

/**
 * A time of a file in whole epoch milliseconds, within what a Date takes: on file systems with 64-bit times the owner of
 * a file can set times of which a Date, JSON's readers and the database can make nothing.
 */
export function toDateRange(ms: number): number {
  return Math.floor(Math.min(Math.max(ms, -MAX_DATE_MS), MAX_DATE_MS));
}

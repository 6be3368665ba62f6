import { MAX_RUN_WAIT_SECONDS } from "../host-agent/protocol/run.ts";

/** A token, or a quoted string (RFC 9110, 5.6). */
const WORD = String.raw`[!#$%&'*+.^_\x60|~\w-]+|"(?:[^"\\]|\\.)*"`;
const PREFERENCE = new RegExp(
  String.raw`^[ \t]*(?<name>[!#$%&'*+.^_\x60|~\w-]+)(?:[ \t]*=[ \t]*(?<value>${WORD})?)?[ \t]*(?:;.*)?$`,
  "s",
);
/** One member of the list: commas inside quotes do not end it. */
const MEMBER = /(?:"(?:[^"\\]|\\.)*"|[^,])+/gs;
/** A longer header is ignored. */
const MAX_LENGTH = 1_000;

/**
 * The seconds of `Prefer: wait=N` (RFC 7240, section 4.3), at most
 * MAX_RUN_WAIT_SECONDS; undefined without one. A preference is optional: a
 * malformed or unknown one is ignored, and of several the first counts.
 */
export function preferredWait(headers: Headers): number | undefined {
  const prefer = headers.get("prefer");
  if (prefer === null || prefer.length > MAX_LENGTH) return undefined;
  for (const [member] of prefer.matchAll(MEMBER)) {
    const { name, value } = PREFERENCE.exec(member)?.groups ?? {};
    if (name?.toLowerCase() !== "wait") continue;
    const seconds = /^"?(?<digits>\d+)"?$/.exec(value ?? "")?.groups!["digits"];
    return seconds === undefined ? undefined : Math.min(Number(seconds), MAX_RUN_WAIT_SECONDS);
  }
  return undefined;
}

/** The header that confirms a wait, and its longest time; none without one. */
export function preferenceApplied(waitSeconds: number | undefined): Record<string, string> {
  return waitSeconds === undefined ? {} : { "preference-applied": `wait=${waitSeconds}` };
}

/**
 * The last lines of programs that failed. Each pattern is anchored to a form that a success report ("0 errors", "error rate: 0.1")
 * does not have. Two kinds of lines prove nothing and match none: commands that `set -x` traces ("+ grep FATAL"), and what a shell
 * says when it continues, as about an optional program that is missing or a background job that the script itself has killed.
 */
export const DEFAULT_ERROR_MARKERS: readonly string[] = [
  "^Traceback \\(most recent call last\\)",
  // "ValueError: bad", "TypeError [ERR_X]: bad"; not a measure such as "MeanAbsoluteError: 0.031".
  "^(?:[\\w.]+\\.)?\\w*(?:Error|Exception)(?: \\[\\w+\\])?: (?!\\s*[-+]?[\\d.]+(?:e[-+]?\\d+)?\\s*(?:%\\s*)?$)",
  "^(?!\\++ ).*(?<!\\b(?:0|[Nn]o) )\\bFATAL\\b(?!\\s*[:=]\\s*0\\s*$)",
  "^(?:thread '.*' (?:\\(\\d+\\) )?)?panic(?:ked)?(?:: | at )",
  "^(?!\\++ ).*\\bSegmentation fault\\b",
  "^(?:Aborted|Bus error)(?: \\(core dumped\\))?\\s*$",
  "^(?!\\++ ).*: line \\d+: +\\d+ (?:Aborted|Bus error)\\b",
];

/** How many bytes of a script are searched for the line. */
export const MARKERS_OFF_BYTES = 4_096;

/** True when the beginning of a script has the line that turns the error markers off: then its exit code alone counts. */
export function turnsMarkersOff(head: string): boolean {
  return /^# hub: error-markers off[ \t\r]*$/m.test(head);
}

/**
 * Lines that programs end with when they have failed. Each is anchored to a
 * form that a report on success ("0 errors", "error rate: 0.1") does not take.
 */
export const DEFAULT_ERROR_MARKERS: readonly string[] = [
  "^Traceback \\(most recent call last\\)",
  // "ValueError: bad", "TypeError [ERR_X]: bad"; not a measure such as "MeanAbsoluteError: 0.031".
  "^(?:[\\w.]+\\.)?\\w*(?:Error|Exception)(?: \\[\\w+\\])?: (?!\\s*[-+]?[\\d.]+(?:e[-+]?\\d+)?\\s*(?:%\\s*)?$)",
  "(?<!\\b(?:0|[Nn]o) )\\bFATAL\\b(?!\\s*[:=]\\s*0\\s*$)",
  "^(?:thread '.*' (?:\\(\\d+\\) )?)?panic(?:ked)?(?:: | at )",
  "\\bSegmentation fault\\b",
  "\\bcommand not found\\s*$",
  // What dash says of a missing command.
  "^\\S+: \\d+: .+: not found\\s*$",
  "^(?:Killed|Aborted|Bus error)(?: \\(core dumped\\))?\\s*$",
  "^.*: line \\d+: +\\d+ (?:Killed|Aborted|Bus error)\\b",
];

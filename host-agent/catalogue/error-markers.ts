/**
 * The last lines of programs that failed. Each pattern is anchored to a form
 * that a success report ("0 errors", "error rate: 0.1") does not have.
 */
export const DEFAULT_ERROR_MARKERS: readonly string[] = [
  "^Traceback \\(most recent call last\\)",
  // "ValueError: bad", "TypeError [ERR_X]: bad"; not a measure such as "MeanAbsoluteError: 0.031".
  "^(?:[\\w.]+\\.)?\\w*(?:Error|Exception)(?: \\[\\w+\\])?: (?!\\s*[-+]?[\\d.]+(?:e[-+]?\\d+)?\\s*(?:%\\s*)?$)",
  "(?<!\\b(?:0|[Nn]o) )\\bFATAL\\b(?!\\s*[:=]\\s*0\\s*$)",
  "^(?:thread '.*' (?:\\(\\d+\\) )?)?panic(?:ked)?(?:: | at )",
  "\\bSegmentation fault\\b",
  "\\bcommand not found\\s*$",
  // dash, for a missing command.
  "^\\S+: \\d+: .+: not found\\s*$",
  "^(?:Killed|Aborted|Bus error)(?: \\(core dumped\\))?\\s*$",
  "^.*: line \\d+: +\\d+ (?:Killed|Aborted|Bus error)\\b",
];

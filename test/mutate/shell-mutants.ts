import { spawnSync } from "node:child_process";

import type { Mutant } from "./mutants.ts";

/** One kind of break: what it replaces, anywhere in a line, and by what. */
type Rule = [pattern: RegExp, after: string | ((found: string) => string)];

const OPPOSITES: Record<string, string> = {
  "||": "&&",
  "&&": "||",
  "=": "!=",
  "!=": "=",
  "-eq": "-ne",
  "-ne": "-eq",
  "-lt": "-le",
  "-le": "-lt",
  "-gt": "-ge",
  "-ge": "-gt",
};

const RULES: Rule[] = [
  [/(?<=\b(?:if|elif|while|until) ).*(?=; (?:then|do)\b)/g, "true"],
  [/(?<=\b(?:if|elif) ).*(?=; then\b)/g, "false"],
  [/\|\||&&|(?<= )(?:!?=|-(?:eq|ne|lt|le|gt|ge))(?= )/g, (found) => OPPOSITES[found]!],
  // What follows an operator, up to the end of its command.
  [/ (?:\|\||&&) [^|&;]+(?=[|&;]|$)/g, ""],
  [/ ?\d*(?:<>|>>|[<>])(?:&[\d-]|[^ ;)}&]+)/g, ""],
  [/ (?:HUP|INT|QUIT|PIPE|ALRM|TERM|USR1|USR2|TSTP|TTIN|TTOU|CHLD)\b/g, ""],
  [/(?<![$\w/.&<>-])\d+(?![\w<>])/g, (found) => String(Number(found) + 1)],
];

/** Lines that hold a construct together: without one of them nothing can be parsed. */
const STRUCTURE = /^(?:then|else|fi|do|done|esac|;;|\}|\{|\)|)$/;

/** Every small break of a shell script that `sh -n` still accepts, line by line. Comments are left alone. */
export function shellMutantsOf(source: string): Mutant[] {
  const found: Mutant[] = [];
  let start = 0;
  for (const [index, line] of source.split("\n").entries()) {
    for (const [from, before, after] of breaksOf(line)) {
      found.push({ start: start + from, end: start + from + before.length, line: index + 1, before, after });
    }
    start += line.length + 1;
  }
  return found.filter(({ start: from, end, after }) =>
    isAccepted(source.slice(0, from) + after + source.slice(end)),
  );
}

type Break = [from: number, before: string, after: string];

function breaksOf(line: string): Break[] {
  const command = line.trim();
  if (command.startsWith("#") || STRUCTURE.test(command)) return [];
  // `:` does nothing, and succeeds.
  const removed: Break = [line.indexOf(command), command, ":"];
  const others = RULES.flatMap(([pattern, after]) =>
    Array.from(line.matchAll(pattern), ({ 0: before, index }): Break => [
      index,
      before,
      typeof after === "string" ? after : after(before),
    ]),
  );
  return [...(command === ":" ? [] : [removed]), ...others].filter(([, before, after]) => before !== after);
}

function isAccepted(source: string): boolean {
  return spawnSync("/bin/sh", ["-n"], { input: source }).status === 0;
}

import { memo } from "./memo.ts";
import type { LogLine } from "./log-window.ts";
import type { Segment } from "./visible-text.ts";

interface LogLinesProps {
  lines: readonly LogLine[];
  /** What is searched for; "" for nothing. */
  words: string;
  /** The byte of the present match; -1 for none. */
  current: number;
}

/** The lines of a window, as plain text. */
export function LogLines({ lines, words, current }: LogLinesProps) {
  return (
    <div class="lines">
      {lines.map((line) => (
        <Line
          key={line.start}
          line={line}
          words={words !== "" && line.text.toLowerCase().includes(words.toLowerCase()) ? words : ""}
          isCurrent={current >= line.start && current < line.end}
        />
      ))}
    </div>
  );
}

const Line = memo(function Line({
  line,
  words,
  isCurrent,
}: {
  line: LogLine;
  words: string;
  isCurrent: boolean;
}) {
  return (
    <div class={isCurrent ? "line current" : "line"} data-start={line.start}>
      {line.segments.map((segment, index) => drawSegment(segment, index, words))}
      {line.note && (
        <span class="control" title={NOTES[line.note]}>
          {line.note === "return" ? "␍" : "⤶"}
        </span>
      )}
    </div>
  );
});

const NOTES = {
  return: "A carriage return: a terminal writes the next line over this one",
  cut: "Part of a very long line",
};

function drawSegment({ text, look }: Segment, key: number, words: string) {
  const shown = words === "" ? text : markWords(text, words);
  return look === "" ? (
    shown
  ) : (
    <span key={key} class={look}>
      {shown}
    </span>
  );
}

function markWords(text: string, words: string) {
  const parts = [];
  const folded = text.toLowerCase();
  const wanted = words.toLowerCase();
  let at = 0;
  for (let next = folded.indexOf(wanted); next >= 0; next = folded.indexOf(wanted, at)) {
    parts.push(text.slice(at, next), <mark key={next}>{text.slice(next, next + wanted.length)}</mark>);
    at = next + wanted.length;
  }
  parts.push(text.slice(at));
  return parts;
}

import Table from "cli-table3";
import stringWidth from "string-width";

const NO_LINES = Object.fromEntries(
  [
    ..."top,top-mid,top-left,top-right,bottom,bottom-mid,bottom-left,bottom-right".split(","),
    ..."left,left-mid,mid,mid-mid,right,right-mid,middle".split(","),
  ].map((part) => [part, ""]),
);
const GAP = 2;
const NARROWEST_COLUMN = 6;

/**
 * Rows under a head, in columns. With `width` (that of a terminal) the widest
 * columns are cut so that a row stays on one line; the first never is, since it
 * is what the next command is called with. Cells are printable already.
 */
export async function renderTable(
  head: readonly string[],
  rows: readonly string[][],
  width?: number,
): Promise<string> {
  const widths = head.map((title, column) =>
    rows.reduce((widest, row) => Math.max(widest, stringWidth(row[column] ?? "")), title.length),
  );
  let cells = rows;
  if (width !== undefined) {
    shrink(widths, width - GAP * (head.length - 1));
    // A last column of which nothing readable is left would only break the line.
    const taken = sum(widths) + GAP * (head.length - 1);
    if (taken > width) widths[widths.length - 1] = Math.max(1, widths.at(-1)! - (taken - width));
    // Loaded for terminals only: a table in a pipe is never cut.
    const { default: cliTruncate } = await import("cli-truncate");
    cells = rows.map((row) => row.map((cell, i) => cliTruncate(cell, widths[i]!)));
  }
  const table = new Table({
    head: [...head],
    colWidths: widths.map((columnWidth, i) => columnWidth + (i < head.length - 1 ? GAP : 0)),
    chars: NO_LINES,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  table.push(...cells.map((row) => [...row]));
  const lines = table.toString().split("\n");
  return lines.map((line) => `${line.trimEnd()}\n`).join("");
}

function shrink(widths: number[], available: number): void {
  for (let over = sum(widths) - available; over > 0; over--) {
    const widest = Math.max(...widths.slice(1));
    if (widest <= NARROWEST_COLUMN) return;
    widths[widths.indexOf(widest, 1)] = widest - 1;
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

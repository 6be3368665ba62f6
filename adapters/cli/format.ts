import { styleText } from "node:util";

import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { launchWords, neverStarted } from "../client/run-facts.ts";
import { runDuration } from "../client/units.ts";
import { printable } from "./printable.ts";

const STATUS_COLOURS = {
  running: "cyan",
  completed: "green",
  failed: "red",
  killed: "yellow",
  unknown: "magenta",
} as const;

/** How many characters of a launch's arguments a list shows. */
const MAX_WORDS_LENGTH = 60;

/** `2026-11-23 21:38:02` in local time. */
export function localTime(epochSeconds: number): string {
  const date = new Date(epochSeconds * 1000);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** The recipe or the path that was launched. */
export function whatRan({ spec }: RunRecord): string {
  return printable("recipe_id" in spec ? spec.recipe_id : spec.path);
}

/** The parameters and arguments that it was launched with, as far as they are short; "" for none. */
export function whatWith(run: RunRecord): string {
  const words = launchWords(run);
  const shown = Array.from(words).slice(0, MAX_WORDS_LENGTH).join("");
  return printable(shown.length < words.length ? `${shown}…` : words);
}

/** A status in its colour, where `stream` is a terminal that wants colours. */
export function statusText(status: string, stream: NodeJS.WriteStream): string {
  const isKnown = Object.hasOwn(STATUS_COLOURS, status);
  return isKnown
    ? styleText(STATUS_COLOURS[status as keyof typeof STATUS_COLOURS], status, { stream })
    : printable(status);
}

/** How a run ended, in a sentence. */
export function outcome(run: RunRecord): string {
  // Most reasons name the code: it is not said twice.
  const isSaid = run.exit_code === null || new RegExp(`\\bcode ${run.exit_code}\\b`).test(run.status_reason);
  const code = isSaid ? "" : ` with exit code ${run.exit_code}`;
  if (neverStarted(run)) return `${run.run_id} was never started: ${printable(run.status_reason)}`;
  return `${run.run_id} ${printable(run.status)}${code} after ${runDuration(run, Date.now())}: ${printable(run.status_reason)}`;
}

function two(value: number): string {
  return String(Math.floor(value)).padStart(2, "0");
}

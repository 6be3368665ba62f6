import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { byteCount, runDuration } from "../client/units.ts";
import type { Output } from "./output.ts";
import { printable } from "./printable.ts";

export interface StatusLine {
  /** Counts bytes of the log that were shown. */
  add(bytes: number): void;
  show(run: RunRecord): void;
  [Symbol.dispose](): void;
}

const TICK_MS = 500;
/** The rate is the mean over this long. */
const RATE_WINDOW_MS = 5_000;

const NONE: StatusLine = { add() {}, show() {}, [Symbol.dispose]() {} };

/**
 * A line under the output with the run's status, time, bytes and rate, if stderr
 * is a terminal; otherwise nothing.
 */
export async function openStatusLine(run: RunRecord, { stderr }: Output): Promise<StatusLine> {
  if (!stderr.isTTY || process.env["TERM"] === "dumb") return NONE;
  const { default: yoctoSpinner } = await import("yocto-spinner");
  let current = run;
  let total = 0;
  let recent: { at: number; bytes: number }[] = [];

  function text(): string {
    const now = performance.now();
    recent = recent.filter(({ at }) => now - at < RATE_WINDOW_MS);
    const rate = recent.reduce((sum, { bytes }) => sum + bytes, 0) / (RATE_WINDOW_MS / 1000);
    const traffic = total === 0 ? "" : ` · ${byteCount(total)} · ${byteCount(Math.round(rate))}/s`;
    const line = `${run.run_id} ${printable(current.status)} ${runDuration(current, Date.now())}${traffic}`;
    // Every character of it is one column wide.
    return line.slice(0, Math.max(1, (stderr.columns || 80) - 4));
  }

  const spinner = yoctoSpinner({ text: text(), stream: stderr, handleSignals: false }).start();
  const timer = setInterval(() => {
    spinner.text = text();
  }, TICK_MS);
  return {
    add(bytes) {
      total += bytes;
      recent.push({ at: performance.now(), bytes });
    },
    show(record) {
      current = record;
    },
    [Symbol.dispose]() {
      clearInterval(timer);
      spinner.stop();
    },
  };
}

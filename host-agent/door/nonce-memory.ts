import { constants, readFileSync, writeSync } from "node:fs";

import { MAX_AGE_SECONDS, MAX_SKEW_SECONDS } from "../protocol/signature.ts";
import { type Clock, hostClock } from "../system/clock.ts";
import type { Log } from "../system/log-line.ts";
import { openFile } from "../system/open-file.ts";

/** The mark is always overwritten with the same length: that needs no new disk space. */
const MARK_DIGITS = 15;

export type NonceMemory = ReturnType<typeof openNonceMemory>;

/**
 * Remembers the nonces of all signatures that are not too old yet, and
 * nothing older. Signatures that were created before this memory began are refused,
 * so a restart lets no replay in: the file at `path` keeps the
 * highest creation time that an agent ever accepted, and the memory of the next agent begins
 * after it, and not before its own start. The file is written at most once a second.
 *
 * A wall clock that is set back, as one that was ahead and is put right, begins the memory again: as after a restart,
 * signatures are refused until the allowed skew is over, and not for as long as the clock was ahead. `log` gets
 * one entry. The nonces that are remembered stay.
 */
export function openNonceMemory(path: string, clock: Clock = hostClock(), log: Log = () => {}) {
  const nowSeconds = () => Math.floor(clock().at / 1000);
  // A mark further ahead than the allowed skew is from a clock that was corrected since.
  let mark = Math.min(readMark(path), nowSeconds() + MAX_SKEW_SECONDS);
  /** Creation times before this are outside the memory. */
  let notBefore = Math.max(nowSeconds(), mark + 1);
  const nonces = new Map<number, Set<string>>();
  const file = openFile(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
  // An empty file is then always a damaged one.
  writeMark(mark);

  function writeMark(created: number): void {
    writeSync(file.fd, `${String(created).padStart(MARK_DIGITS)}\n`, 0);
    mark = created;
  }

  /** The farthest that the wall clock was ahead of the time since the boot, in milliseconds: it falls only when the clock is set back. */
  let ahead = Number.NEGATIVE_INFINITY;

  function noteClock(): void {
    const { at, uptime } = clock();
    const current = at - uptime;
    if (current >= ahead - MAX_SKEW_SECONDS * 1000) {
      ahead = Math.max(ahead, current);
      return;
    }
    log({
      level: "warn",
      event: "clock_set_back",
      seconds: Math.round((ahead - current) / 1000),
      detail: `requests are refused until those that were signed before cannot be valid any more, ${MAX_SKEW_SECONDS + 1} seconds`,
    });
    // What was accepted with the right time is not later than this; what was accepted ahead of it is from the future now.
    const latest = nowSeconds() + MAX_SKEW_SECONDS;
    writeMark(Math.min(mark, latest));
    notBefore = latest + 1;
    ahead = current;
  }

  noteClock();

  function forget(): void {
    noteClock();
    notBefore = Math.max(notBefore, nowSeconds() - MAX_AGE_SECONDS);
    for (const created of nonces.keys()) if (created < notBefore) nonces.delete(created);
  }

  return {
    /**
     * Takes a nonce of a valid signature: `new` the first time, `seen` every later time, and
     * `before` when it may have been seen before this memory began. Throws
     * when the mark cannot be written; then the nonce is not taken.
     */
    take(nonce: string, created: number): "new" | "seen" | "before" {
      forget();
      if (created < notBefore) return "before";
      const known = nonces.get(created);
      if (known?.has(nonce)) return "seen";
      if (created > mark) writeMark(created);
      if (known) known.add(nonce);
      else nonces.set(created, new Set([nonce]));
      return "new";
    },
    /** How many nonces are remembered. */
    count: () => nonces.values().reduce((sum, set) => sum + set.size, 0),
    close: () => file[Symbol.dispose](),
  };
}

/** The highest creation time that was accepted, in epoch seconds; Infinity for a damaged file. */
function readMark(path: string): number {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return 0;
    throw error;
  }
  return /^ *\d+\n$/.test(text) ? Number(text) : Infinity;
}

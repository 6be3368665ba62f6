import { useEffect, useRef, useState } from "preact/hooks";

import { pause } from "../client/pause.ts";
import { pauseBeforePoll } from "../client/retry.ts";

/** The time in epoch milliseconds, updated every `everyMs` while the page is visible. */
export function useNow(everyMs = 1_000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) setNow(Date.now());
    }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

const NARROW = matchMedia("(max-width: 640px)");

/** Whether the page is as narrow as a phone; the limit is that of style.css. */
export function useIsNarrow(): boolean {
  const [isNarrow, setNarrow] = useState(NARROW.matches);
  useEffect(() => {
    const look = () => setNarrow(NARROW.matches);
    NARROW.addEventListener("change", look);
    return () => NARROW.removeEventListener("change", look);
  }, []);
  return isNarrow;
}

/** Sets the title of the browser's tab. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Hub`;
  }, [title]);
}

/**
 * Loads when it appears and when `key` changes, and again after a failure that may pass; `again` loads once more. While that
 * is under way the last value stays.
 */
export function useLoaded<T>(load: () => Promise<T>, key: string) {
  const [state, setState] = useState<{ key?: string; value?: T; error?: Error }>({});
  const [attempt, setAttempt] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const stop = new AbortController();
    void loadUntilKnown(
      () => latest.current(),
      stop.signal,
      (loaded) =>
        setState((old) => ({
          ...(old.key === key && "error" in loaded && { value: old.value }),
          ...loaded,
          key,
        })),
    );
    return () => stop.abort();
  }, [key, attempt]);
  const { value, error } = state.key === key ? state : {};
  return { value, error, again: () => setAttempt((n) => n + 1) };
}

/** Calls `load` until it succeeds or fails for good, and passes on each outcome. */
async function loadUntilKnown<T>(
  load: () => Promise<T>,
  signal: AbortSignal,
  onOutcome: (outcome: { value: T } | { error: Error }) => void,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const value = await load();
      if (!signal.aborted) onOutcome({ value });
      return;
    } catch (error) {
      if (signal.aborted) return;
      onOutcome({ error: error as Error });
      await pause(pauseBeforePoll(error), signal);
      await seen(signal);
    }
  }
}

/** Resolves when the page is visible, or `signal` aborts: a hidden tab does not poll. */
export function seen(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (!document.hidden || signal.aborted) return resolve();
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
  });
}

/** Puts text on the clipboard, also if the page is not served over TLS. Resolves with false when the browser refuses. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

/** Saves a blob as a file with this name. */
export function saveBlob(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A setting that this browser remembers. */
export function useStored(name: string, initial: boolean) {
  const [value, setValue] = useState(() => (localStorage.getItem(name) ?? String(initial)) === "true");
  const keep = (next: boolean) => {
    localStorage.setItem(name, String(next));
    setValue(next);
  };
  return [value, keep] as const;
}

import { useRef, useState } from "preact/hooks";

import { byteCount } from "../client/units.ts";
import { findInLog } from "./find-in-log.ts";
import type { LogReader } from "./log-reader.ts";

interface LogFinderProps {
  reader: LogReader;
  /** Marks the words in the log and shows the match at `byte`; -1 for none. */
  onMark(mark: { words: string; byte: number }): void;
}

/** Searches the whole log, not only the part that is shown: Enter for the next match, Shift+Enter for the previous one. */
export function LogFinder({ reader, onMark }: LogFinderProps) {
  const [words, setWords] = useState("");
  const [status, setStatus] = useState("");
  const at = useRef(-1);
  const running = useRef<AbortController | undefined>(undefined);

  const find = async (backwards: boolean) => {
    running.current?.abort();
    if (words === "") return;
    const stop = new AbortController();
    running.current = stop;
    const { window, size } = reader.state.get();
    const from = at.current >= 0 ? at.current + (backwards ? 0 : 1) : backwards ? window.end : window.start;
    const options = {
      backwards,
      signal: stop.signal,
      onProgress: (byte: number) => setStatus(`searching at ${byteCount(byte)} …`),
    };
    setStatus("searching …");
    const read = (after: number, maxBytes: number) => reader.readBytes(after, maxBytes, stop.signal);
    try {
      let found = await findInLog(read, words, { ...options, from });
      if (found === undefined && !stop.signal.aborted) {
        // Wraps around once, as an editor does.
        found = await findInLog(read, words, { ...options, from: backwards ? size : 0 });
      }
      if (stop.signal.aborted) return;
      if (found === undefined) {
        setStatus("no match");
        onMark({ words, byte: -1 });
        return;
      }
      at.current = found;
      setStatus(`found at ${byteCount(found)}`);
      reader.stopFollowing();
      const shown = reader.state.get().window;
      if (found < shown.start || found >= shown.end) await reader.goTo(found);
      onMark({ words, byte: found });
    } catch {
      if (!stop.signal.aborted) setStatus("the search failed");
    }
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter") {
      event.preventDefault();
      void find(event.shiftKey);
    } else if (event.key === "Escape") {
      running.current?.abort();
      setStatus("");
    }
  };
  return (
    <span class="finder" role="search">
      <input
        type="search"
        placeholder="Find in the log"
        aria-label="Find in the log"
        title="Enter: next, Shift+Enter: previous, Escape: stop"
        value={words}
        onInput={({ currentTarget }) => {
          setWords(currentTarget.value);
          at.current = -1;
          if (currentTarget.value === "") onMark({ words: "", byte: -1 });
        }}
        onKeyDown={onKeyDown}
      />
      <span role="status">{status}</span>
    </span>
  );
}

import { useRef, useState } from "preact/hooks";

import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { copyText, saveBlob } from "./hooks.ts";
import type { LogReader } from "./log-reader.ts";

/** The most that is put on the clipboard. */
const MAX_COPY_BYTES = 4_194_304;

/** Puts the log on the clipboard; of a large log, the part that is shown. */
export function CopyLog({ reader }: { reader: LogReader }) {
  const [said, setSaid] = useState<string>();
  const copy = async () => {
    const { size, window } = reader.state.get();
    const isAll = size <= MAX_COPY_BYTES;
    const text = isAll
      ? await reader.readAll().then((blob) => blob.text())
      : window.lines.map(({ text: line }) => line).join("\n");
    const copied = await copyText(text);
    setSaid(!copied ? "The browser refused" : isAll ? "Copied" : `Copied ${window.lines.length} lines`);
    setTimeout(() => setSaid(undefined), 2_500);
  };
  return (
    <button
      type="button"
      onClick={() => void copy().catch(() => setSaid("Failed"))}
      title="Copy the log; of a large log, the part that is shown"
    >
      {said ?? "Copy"}
    </button>
  );
}

/** Saves the whole log under its name on the host. */
export function DownloadLog({ reader, run }: { reader: LogReader; run: RunRecord }) {
  const [progress, setProgress] = useState<string>();
  const stop = useRef<AbortController | undefined>(undefined);
  const download = async () => {
    if (stop.current) {
      stop.current.abort();
      return;
    }
    stop.current = new AbortController();
    setProgress("0%, cancel");
    try {
      const blob = await reader.readAll((read, size) => {
        setProgress(`${Math.floor((read / Math.max(1, size)) * 100)}%, cancel`);
      }, stop.current.signal);
      saveBlob(blob, run.log_path.slice(run.log_path.lastIndexOf("/") + 1));
      setProgress(undefined);
    } catch {
      setProgress(stop.current.signal.aborted ? undefined : "Failed. Retry?");
    } finally {
      stop.current = undefined;
    }
  };
  return (
    <button type="button" onClick={() => void download()}>
      {progress ?? "Download"}
    </button>
  );
}

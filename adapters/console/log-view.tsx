import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import type { RunRecord } from "../../host-agent/protocol/schemas.ts";
import type { Api } from "./api.ts";
import { byteCount, nameOf } from "./format.ts";
import { copyText, saveBlob, useStored } from "./hooks.ts";
import { LogFinder } from "./log-finder.tsx";
import { LogLines } from "./log-lines.tsx";
import { logReader } from "./log-reader.ts";
import { Failure } from "./notice.tsx";
import { useStore } from "./store.ts";

/** So near to an edge, in pixels, more is read. */
const NEAR = 600;
const AT_END = 4;

/** A run's log: follows it while it grows, and shows any place of it, however large it is. */
export function LogView({ api, run }: { api: Api; run: RunRecord }) {
  const { source, run_id } = run;
  const reader = useMemo(
    () => logReader((query) => api.readLog(source, run_id, query)),
    [api, source, run_id],
  );
  const state = useStore(reader.state);
  const isOver = run.ended_at !== null;
  useEffect(() => {
    const stop = new AbortController();
    void reader.follow(isOver, stop.signal);
    return () => stop.abort();
  }, [reader, isOver]);

  const [wraps, setWraps] = useStored("hub.wrap", true);
  const [marked, setMarked] = useState({ words: "", byte: -1 });
  const box = useRef<HTMLDivElement>(null);
  const keepPlace = useKeepPlace(box, reader);

  useLayoutEffect(() => {
    if (marked.byte < 0) return;
    const line = [...box.current!.querySelectorAll<HTMLElement>("[data-start]")].findLast(
      (element) => Number(element.dataset["start"]) <= marked.byte,
    );
    line?.scrollIntoView({ block: "center" });
  }, [marked]);

  const toTop = async () => {
    await reader.goTo(0);
    box.current!.scrollTop = 0;
  };
  const toEnd = () => reader.goToEnd();

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "g" || event.key === "Home") void toTop();
    else if (event.key === "G" || event.key === "End") void toEnd();
    else if (event.key === "w") setWraps(!wraps);
    else return;
    event.preventDefault();
  };

  const { window, size, isFollowing } = state;
  const isWhole = window.start === 0 && window.end >= size;
  return (
    <section class="log" aria-label="Log">
      <div class="log-bar" role="toolbar" aria-label="Log">
        <LogFinder reader={reader} onMark={setMarked} />
        <span class="log-size">
          {isWhole
            ? byteCount(size)
            : `${byteCount(window.start)} – ${byteCount(window.end)} of ${byteCount(size)}`}
        </span>
        <span class="grow" />
        <button
          type="button"
          aria-pressed={wraps}
          onClick={() => setWraps(!wraps)}
          title="Wrap long lines (w)"
        >
          Wrap
        </button>
        <CopyLog reader={reader} />
        <Download reader={reader} run={run} />
        <button type="button" onClick={() => void toTop()} title="To the first line (g)">
          ↑ Top
        </button>
        <button
          type="button"
          aria-pressed={isFollowing}
          onClick={() => void toEnd()}
          title="To the last line (G)"
        >
          {isOver ? "↓ End" : isFollowing ? "↓ Following" : "↓ Follow"}
        </button>
      </div>
      {!isWhole && size > 0 && (
        <input
          type="range"
          class="scrubber"
          aria-label="Place in the log"
          aria-valuetext={`${byteCount(window.start)} of ${byteCount(size)}`}
          min={0}
          max={size}
          step={Math.max(1, Math.floor(size / 1000))}
          value={isFollowing ? size : window.start}
          onChange={({ currentTarget }) => void reader.goTo(Number(currentTarget.value))}
        />
      )}
      {state.error && <Failure error={state.error} onRetry={reader.retry} />}
      {state.note && (
        <p class="aside" role="status">
          {state.note}
        </p>
      )}
      <div
        ref={box}
        class={`log-lines${wraps ? " wraps" : ""}`}
        role="region"
        aria-label={`Log of ${nameOf(run)}`}
        tabIndex={0}
        onKeyDown={onKeyDown}
        onScroll={keepPlace.onScroll}
        onWheel={(event) => event.deltaY < 0 && reader.stopFollowing()}
      >
        <LogLines lines={window.lines} words={marked.words} current={marked.byte} />
        {window.lines.length === 0 && !state.error && (
          <p class="loading">
            {!state.isRead
              ? "Reading the log …"
              : state.isComplete
                ? "The run wrote nothing."
                : "Nothing has been written yet."}
          </p>
        )}
        {state.isComplete && isWhole && window.lines.length > 0 && (
          <p class="log-end">The log is complete.</p>
        )}
      </div>
    </section>
  );
}

type Reader = ReturnType<typeof logReader>;

/**
 * Keeps the reader's eye where it is while lines come and go at either end:
 * at the end while following, else at the line that stands on top.
 */
function useKeepPlace(box: { current: HTMLDivElement | null }, reader: Reader) {
  const { window, isFollowing } = reader.state.get();
  const anchor = useRef<{ start: number; offset: number } | undefined>(undefined);
  const lastTop = useRef(0);

  useLayoutEffect(() => {
    const scroller = box.current!;
    if (isFollowing) {
      scroller.scrollTop = scroller.scrollHeight;
    } else if (anchor.current) {
      const { start, offset } = anchor.current;
      const line = scroller.querySelector<HTMLElement>(`[data-start="${start}"]`);
      if (line) scroller.scrollTop = line.offsetTop - offset;
    }
    lastTop.current = scroller.scrollTop;
    anchor.current = topLine(scroller);
  }, [window, isFollowing]);

  return {
    onScroll() {
      const scroller = box.current!;
      const { scrollTop, scrollHeight, clientHeight } = scroller;
      const isUpwards = scrollTop < lastTop.current;
      lastTop.current = scrollTop;
      anchor.current = topLine(scroller);
      const below = scrollHeight - scrollTop - clientHeight;
      if (isUpwards && below > AT_END) reader.stopFollowing();
      if (scrollTop < NEAR) void reader.readBefore();
      if (below < NEAR) void reader.readAfter(!isUpwards && below <= AT_END);
    },
  };
}

/** The first line that can be seen, and how far below the edge it starts. */
function topLine(scroller: HTMLElement): { start: number; offset: number } | undefined {
  const lines = scroller.querySelector(".lines")?.children;
  if (!lines?.length) return undefined;
  let low = 0;
  let high = lines.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    const line = lines[middle] as HTMLElement;
    if (line.offsetTop + line.offsetHeight > scroller.scrollTop) high = middle;
    else low = middle + 1;
  }
  const line = lines[low] as HTMLElement;
  return { start: Number(line.dataset["start"]), offset: line.offsetTop - scroller.scrollTop };
}

/** More than this is not put on the clipboard. */
const MAX_COPY_BYTES = 4_194_304;

function CopyLog({ reader }: { reader: Reader }) {
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
      title="Copy the log; of a large one the part that is shown"
    >
      {said ?? "Copy"}
    </button>
  );
}

function Download({ reader, run }: { reader: Reader; run: RunRecord }) {
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
      setProgress(stop.current.signal.aborted ? undefined : "Failed, again?");
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

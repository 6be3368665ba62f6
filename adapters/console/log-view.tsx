import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { neverStarted } from "../client/run-facts.ts";
import { type Api, isOutage } from "./api.ts";
import { nameOf } from "./format.ts";
import { useStored } from "./hooks.ts";
import { useKeepPlace } from "./keep-place.ts";
import { LogBar } from "./log-bar.tsx";
import { LogLines } from "./log-lines.tsx";
import { logReader } from "./log-reader.ts";
import { PollFailure } from "./notice.tsx";
import { useStore } from "./store.ts";
import { spelledOut } from "./visible-text.ts";

/** A run's log of any size: follows it while it grows, and shows any place of it. */
export function LogView({ api, run }: { api: Api; run: RunRecord }) {
  const { source, run_id } = run;
  const reader = useMemo(
    () => logReader((query) => api.readLog({ source, run_id }, query)),
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
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "g" || event.key === "Home") void toTop();
    else if (event.key === "G" || event.key === "End") void reader.goToEnd();
    else if (event.key === "w") setWraps(!wraps);
    else return;
    event.preventDefault();
  };

  const { window, size } = state;
  const isWhole = window.start === 0 && window.end >= size;
  return (
    <section class="log" aria-label="Log">
      <LogBar
        reader={reader}
        run={run}
        wraps={wraps}
        onMark={setMarked}
        onWrap={() => setWraps(!wraps)}
        onTop={() => void toTop()}
      />
      {state.error && <PollFailure error={state.error} onRetry={reader.retry} />}
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
        {window.lines.length === 0 && (!state.error || isOutage(state.error)) && (
          <p class="loading">
            {!state.isRead
              ? "Reading the log …"
              : neverStarted(run)
                ? `The run was never started, so it has no log. ${spelledOut(run.status_reason)}`
                : state.isComplete
                  ? "The run printed nothing."
                  : "No output yet."}
          </p>
        )}
        {state.isComplete && isWhole && window.lines.length > 0 && (
          <p class="log-end">The log is complete.</p>
        )}
      </div>
    </section>
  );
}

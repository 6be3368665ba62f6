import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { STATUSES } from "../../host-agent/protocol/limits.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { runDuration } from "../client/units.ts";
import { count, nameOf, shortTime } from "./format.ts";
import { useNow } from "./hooks.ts";
import { go, href } from "./location.ts";
import { filterRuns, type Wanted } from "./run-filters.tsx";
import type { RunsFeed } from "./runs-feed.ts";
import { useStore } from "./store.ts";
import { layOut, placeTicks } from "./timeline-layout.ts";
import { spelledOut } from "./visible-text.ts";

const SPANS = [1, 6, 24, 168] as const;
const SPAN_NAMES: Record<number, string> = { 1: "1 hour", 6: "6 hours", 24: "24 hours", 168: "7 days" };
/** The most runs that the plot reads. */
const MAX_RUNS = 2_000;

const LANE_HEIGHT = 9;
const LABEL_HEIGHT = 17;
const GROUP_GAP = 9;
const AXIS_HEIGHT = 22;

/** When each run of the last hours that is wanted started, how long it took and how it ended, with a row for each recipe or script. */
export function Timeline({ feed, wanted }: { feed: RunsFeed; wanted: Wanted }) {
  const { runs, hasMore, isLoaded } = useStore(feed.view);
  const [hours, setHours] = useState<number>(6);
  const now = useNow(2_000);
  const [width, box] = useWidth();
  const from = now / 1000 - hours * 3_600;
  const oldest = runs.at(-1)?.started_at ?? 0;
  const needsMore = isLoaded && hasMore && runs.length < MAX_RUNS && oldest > from;
  useEffect(() => {
    if (needsMore) void feed.loadMore().catch(() => {});
  }, [needsMore, runs]);

  const { status, source, words } = wanted;
  const shown = useMemo(
    () => filterRuns([runs.slice(0, MAX_RUNS)], wanted).filter((run) => (run.ended_at ?? Infinity) >= from),
    [runs, from, status, source, words],
  );
  const [pointed, setPointed] = useState<RunRecord>();
  const [isFocused, setFocused] = useState(false);
  const move = (event: KeyboardEvent) => {
    const next = nextRun(shown, pointed, event.key);
    if (event.key === "Enter" && pointed) go(href(["runs", pointed.run_id]));
    else if (next) setPointed(next);
    else return;
    event.preventDefault();
  };

  return (
    <section class="timeline" aria-label="Timeline">
      <div class="timeline-head">
        <h2>Timeline</h2>
        <div class="spans" role="group" aria-label="Time span">
          {SPANS.map((span) => (
            <button key={span} type="button" aria-pressed={span === hours} onClick={() => setHours(span)}>
              {SPAN_NAMES[span]}
            </button>
          ))}
        </div>
      </div>
      <p class="timeline-note" aria-live={isFocused ? "polite" : "off"}>
        {pointed ? describe(pointed, now) : count(shown.length, "run")}
        {!pointed &&
          runs.length >= MAX_RUNS &&
          hasMore &&
          `, at most the newest ${MAX_RUNS.toLocaleString()}`}
      </p>
      <div
        class="plot"
        ref={box}
        role="application"
        tabIndex={0}
        aria-label={`Timeline of the last ${SPAN_NAMES[hours]}: ${summary(shown)}. Left and right choose a run, Enter opens it.`}
        onKeyDown={move}
        onFocus={() => setFocused(true)}
        onBlur={() => {
          setFocused(false);
          setPointed(undefined);
        }}
      >
        <Plot runs={shown} pointed={pointed} from={from} to={now / 1000} width={width} onPoint={setPointed} />
      </div>
      <ul class="legend" aria-hidden="true">
        {STATUSES.map((one) => (
          <li key={one} class={one}>
            {one}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Which run a key leads to from the present one; `runs` are newest first. */
function nextRun(runs: RunRecord[], present: RunRecord | undefined, key: string): RunRecord | undefined {
  const at = runs.findIndex(({ run_id }) => run_id === present?.run_id);
  if (key === "ArrowLeft") return runs[at + 1];
  if (key === "ArrowRight") return at < 0 ? runs[0] : runs[at - 1];
  if (key === "Home") return runs.at(-1);
  return key === "End" ? runs[0] : undefined;
}

interface PlotProps {
  /** Newest first. */
  runs: RunRecord[];
  /** The run that the pointer or the keyboard is at. */
  pointed: RunRecord | undefined;
  /** Epoch seconds. */
  from: number;
  to: number;
  /** Pixels. */
  width: number;
  onPoint(run: RunRecord | undefined): void;
}

/** The bars of the runs between two moments, with a row for each recipe or script. */
function Plot({ runs, pointed, from, to, width, onPoint }: PlotProps) {
  const ticks = placeTicks({ from, to, width });
  let y = AXIS_HEIGHT;
  const placed = layOut(runs, { from, to, width }).map((group) => {
    const top = y;
    y += LABEL_HEIGHT + group.lanes * LANE_HEIGHT + GROUP_GAP;
    return { ...group, top, lanesAt: top + LABEL_HEIGHT };
  });
  return (
    <svg width={width} height={Math.max(y, 120)} aria-hidden="true" onMouseLeave={() => onPoint(undefined)}>
      {ticks.map(({ at, x, labelX, label }) => (
        <g key={at} class="tick">
          <line x1={x} x2={x} y1={AXIS_HEIGHT - 6} y2={AXIS_HEIGHT} />
          {labelX !== undefined && (
            <text x={labelX} y={12} text-anchor="middle">
              {label}
            </text>
          )}
        </g>
      ))}
      {placed.map(({ key, name, lanes, top, lanesAt, bars }) => (
        <g key={key}>
          {/* Between the names only: a line through a name makes it hard to read. */}
          {ticks.map(({ at, x }) => (
            <line key={at} class="grid" x1={x} x2={x} y1={lanesAt} y2={lanesAt + lanes * LANE_HEIGHT} />
          ))}
          <text class="group" x={2} y={top + 12}>
            {shorten(spelledOut(name), width)}
          </text>
          {bars.map((bar) => (
            <rect
              key={bar.run.run_id}
              class={`bar ${bar.run.status}${bar.run.run_id === pointed?.run_id ? " pointed" : ""}`}
              x={bar.x}
              y={lanesAt + bar.lane * LANE_HEIGHT}
              width={bar.width}
              height={LANE_HEIGHT - 2}
              rx={1.5}
              onMouseEnter={() => onPoint(bar.run)}
              onClick={() => go(href(["runs", bar.run.run_id]))}
            />
          ))}
        </g>
      ))}
    </svg>
  );
}

function describe(run: RunRecord, now: number): string {
  const { status } = run;
  return `${spelledOut(nameOf(run))}: ${status}, ${shortTime(run.started_at, now)}, ${runDuration(run, now)}`;
}

function summary(runs: RunRecord[]): string {
  const parts = STATUSES.flatMap((status) => {
    const n = runs.filter((run) => run.status === status).length;
    return n === 0 ? [] : [`${n} ${status}`];
  });
  return parts.length === 0 ? "no runs" : parts.join(", ");
}

function shorten(text: string, width: number): string {
  const most = Math.max(8, Math.floor(width / 7));
  // The end of a path says more than its beginning.
  return text.length > most ? `…${text.slice(1 - most)}` : text;
}

function useWidth() {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(360);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);
  return [width, box] as const;
}

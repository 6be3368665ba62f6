import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { STATUSES } from "../../host-agent/protocol/limits.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { runDuration } from "../client/units.ts";
import { count, nameOf, shortTime } from "./format.ts";
import { useNow } from "./hooks.ts";
import { go, href } from "./location.ts";
import type { RunsFeed } from "./runs-feed.ts";
import { useStore } from "./store.ts";
import { type Bar, layOut, ticksOf } from "./timeline-layout.ts";
import { spelledOut } from "./visible-text.ts";

const SPANS = [1, 6, 24, 168] as const;
const SPAN_NAMES: Record<number, string> = { 1: "1 hour", 6: "6 hours", 24: "24 hours", 168: "7 days" };
/** The most runs that the plot reads. */
const MAX_RUNS = 2_000;

const LANE_HEIGHT = 9;
const LABEL_HEIGHT = 17;
const GROUP_GAP = 9;
const AXIS_HEIGHT = 22;

/** When each run of the last hours started, how long it took and how it ended, with a row for each recipe or script. */
export function Timeline({ feed }: { feed: RunsFeed }) {
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

  const shown = useMemo(
    () => runs.slice(0, MAX_RUNS).filter((run) => (run.ended_at ?? Infinity) >= from),
    [runs, from],
  );
  const [hovered, setHovered] = useState<Bar>();

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
      <p class="timeline-note" aria-hidden="true">
        {hovered ? describe(hovered.run, now) : count(shown.length, "run")}
        {!hovered &&
          runs.length >= MAX_RUNS &&
          hasMore &&
          `, at most the newest ${MAX_RUNS.toLocaleString()}`}
      </p>
      <div class="plot" ref={box}>
        <Plot
          label={`Timeline of the last ${SPAN_NAMES[hours]}: ${summary(shown)}. The list contains the same runs.`}
          runs={shown}
          from={from}
          to={now / 1000}
          width={width}
          onHover={setHovered}
        />
      </div>
      <ul class="legend" aria-hidden="true">
        {STATUSES.map((status) => (
          <li key={status} class={status}>
            {status}
          </li>
        ))}
      </ul>
    </section>
  );
}

interface PlotProps {
  label: string;
  /** Newest first. */
  runs: RunRecord[];
  /** Epoch seconds. */
  from: number;
  to: number;
  /** Pixels. */
  width: number;
  onHover(bar: Bar | undefined): void;
}

/** The bars of the runs between two moments, with a row for each name. */
function Plot({ label, runs, from, to, width, onHover }: PlotProps) {
  const groups = layOut(runs, { from, to, width, nameOf });
  let y = AXIS_HEIGHT;
  const placed = groups.map((group) => {
    const top = y;
    y += LABEL_HEIGHT + group.lanes * LANE_HEIGHT + GROUP_GAP;
    return { ...group, top };
  });
  const height = Math.max(y, 120);
  return (
    <svg role="img" aria-label={label} width={width} height={height} onMouseLeave={() => onHover(undefined)}>
      {ticksOf(from, to).map(({ at, label: time }) => {
        const x = Math.round(((at - from) / (to - from)) * width) + 0.5;
        return (
          <g key={at} class="tick">
            <line x1={x} x2={x} y1={AXIS_HEIGHT - 4} y2={height} />
            <text x={x} y={12} text-anchor={x < 20 ? "start" : x > width - 20 ? "end" : "middle"}>
              {time}
            </text>
          </g>
        );
      })}
      {placed.map(({ name, top, bars }) => (
        <g key={name}>
          <text class="group" x={2} y={top + 12}>
            {shorten(spelledOut(name), width)}
          </text>
          {bars.map((bar) => (
            <rect
              key={bar.run.run_id}
              class={`bar ${bar.run.status}`}
              x={bar.x}
              y={top + LABEL_HEIGHT + bar.lane * LANE_HEIGHT}
              width={bar.width}
              height={LANE_HEIGHT - 2}
              rx={1.5}
              onMouseEnter={() => onHover(bar)}
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
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
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

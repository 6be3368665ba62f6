import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { byteCount } from "../client/units.ts";
import { CopyLog, DownloadLog } from "./log-copies.tsx";
import { LogFinder } from "./log-finder.tsx";
import type { LogReader } from "./log-reader.ts";
import { useStore } from "./store.ts";

interface LogBarProps {
  reader: LogReader;
  run: RunRecord;
  wraps: boolean;
  /** Marks a match of the search; see LogFinder. */
  onMark(mark: { words: string; byte: number }): void;
  onWrap(): void;
  onTop(): void;
}

/** The tools of a log: search, size, wrapping, copies, and moving to any place of it. */
export function LogBar({ reader, run, wraps, onMark, onWrap, onTop }: LogBarProps) {
  const { window, size, isFollowing } = useStore(reader.state);
  const isWhole = window.start === 0 && window.end >= size;
  const follow = isFollowing ? "↓ Following" : "↓ Follow";
  return (
    <>
      <div class="log-bar" role="toolbar" aria-label="Log">
        <LogFinder reader={reader} onMark={onMark} />
        <span class="log-size">
          {isWhole
            ? byteCount(size)
            : `${byteCount(window.start)} – ${byteCount(window.end)} of ${byteCount(size)}`}
        </span>
        <span class="grow" />
        <button type="button" aria-pressed={wraps} onClick={onWrap} title="Wrap long lines (w)">
          Wrap
        </button>
        <CopyLog reader={reader} />
        <DownloadLog reader={reader} run={run} />
        <button type="button" onClick={onTop} title="Go to the first line (g)">
          ↑ Top
        </button>
        <button
          type="button"
          aria-pressed={isFollowing}
          onClick={() => void reader.goToEnd()}
          title="Go to the last line (G)"
        >
          {run.ended_at === null ? follow : "↓ End"}
        </button>
      </div>
      {!isWhole && size > 0 && (
        <input
          type="range"
          class="scrubber"
          aria-label="Position in the log"
          aria-valuetext={`${byteCount(window.start)} of ${byteCount(size)}`}
          min={0}
          max={size}
          step={Math.max(1, Math.floor(size / 1000))}
          value={isFollowing ? size : window.start}
          onChange={({ currentTarget }) => void reader.goTo(Number(currentTarget.value))}
        />
      )}
    </>
  );
}

import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { launchWords } from "../client/run-facts.ts";
import { runDuration } from "../client/units.ts";
import { fullTime, nameOf, shortTime } from "./format.ts";
import { useNow } from "./hooks.ts";
import { go, href } from "./location.ts";
import { StatusMark } from "./status-mark.tsx";
import { VirtualList } from "./virtual-list.tsx";
import { spelledOut } from "./visible-text.ts";

const ROW_HEIGHT = 40;

/** The runs as a table of which only the visible rows are in the document; each row links to its run. */
export function RunTable({ runs, onNearEnd }: { runs: RunRecord[]; onNearEnd(): void }) {
  const now = useNow();
  return (
    <div role="table" aria-label="Runs" aria-rowcount={runs.length + 1} class="run-table">
      <div role="rowgroup">
        <div role="row" aria-rowindex={1} class="run-row head">
          <span role="columnheader">Status</span>
          <span role="columnheader">Name</span>
          <span role="columnheader" class="surface">
            Surface
          </span>
          <span role="columnheader" class="key">
            Key
          </span>
          <span role="columnheader" class="when">
            Started
          </span>
          <span role="columnheader" class="took">
            Duration
          </span>
        </div>
      </div>
      <VirtualList
        class="run-rows"
        role="rowgroup"
        aria-label="Runs, newest first"
        items={runs}
        rowHeight={ROW_HEIGHT}
        onNearEnd={onNearEnd}
        onKeyDown={moveBetweenRows}
        row={(run, index) => <RunRow key={run.run_id} run={run} index={index} now={now} />}
      />
    </div>
  );
}

function RunRow({ run, index, now }: { run: RunRecord; index: number; now: number }) {
  const words = launchWords(run);
  const place = href(["runs", run.run_id]);
  // The whole row leads to its run, but a link over it would keep its text from being selected.
  const open = ({ target }: Event) => {
    if (!(target as Element).closest("a") && String(getSelection()) === "") go(place);
  };
  return (
    <div role="row" aria-rowindex={index + 2} class="run-row" onClick={open}>
      <span role="cell">
        <StatusMark run={run} />
      </span>
      <span role="cell" class="name">
        <a href={place} title={spelledOut(run.cmd)}>
          <bdi>{spelledOut(nameOf(run))}</bdi>
        </a>
        {run.label !== null && <bdi class="label">{spelledOut(run.label)}</bdi>}
        {words !== "" && <code>{spelledOut(words)}</code>}
      </span>
      <span role="cell" class="surface">
        {run.source}
      </span>
      <span role="cell" class="key">
        <bdi>{spelledOut(run.key_name)}</bdi>
      </span>
      <span role="cell" class="when">
        <time dateTime={new Date(run.started_at * 1000).toISOString()} title={fullTime(run.started_at)}>
          {shortTime(run.started_at, now)}
        </time>
      </span>
      <span role="cell" class="took">
        {runDuration(run, now)}
      </span>
    </div>
  );
}

function moveBetweenRows(event: KeyboardEvent): void {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const links = [...(event.currentTarget as Element).querySelectorAll<HTMLElement>(".name a")];
  const at = links.indexOf(document.activeElement as HTMLElement);
  const next = links[at < 0 ? 0 : at + (event.key === "ArrowDown" ? 1 : -1)];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

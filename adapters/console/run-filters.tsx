import { useEffect, useRef } from "preact/hooks";

import { STATUSES } from "../../host-agent/protocol/limits.ts";
import type { RunRecord, RunStatus } from "../../host-agent/protocol/run.ts";
import { nameOf } from "./format.ts";

/** Which runs the list shows. */
export interface Wanted {
  status: RunStatus | undefined;
  source: RunRecord["source"] | undefined;
  words: string;
}

interface RunFiltersProps {
  wanted: Wanted;
  onWords(words: string): void;
  /** Receives the parts of the address that change. */
  onChange(changes: Record<string, string>): void;
}

/** The search and the choices of status and surface; the key / moves the focus to the search. */
export function RunFilters({ wanted: { status, source, words }, onWords, onChange }: RunFiltersProps) {
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const focusSearch = (event: KeyboardEvent) => {
      if (event.key !== "/" || (event.target as Element).closest("input, textarea, select, dialog")) return;
      event.preventDefault();
      search.current?.focus();
    };
    addEventListener("keydown", focusSearch);
    return () => removeEventListener("keydown", focusSearch);
  }, []);

  return (
    <div class="filters" role="search">
      <input
        ref={search}
        type="search"
        placeholder="Search name, label, id, command, key  ( / )"
        aria-label="Search the runs"
        value={words}
        onInput={({ currentTarget }) => onWords(currentTarget.value)}
      />
      <select
        aria-label="Status"
        value={status ?? ""}
        onChange={({ currentTarget }) => onChange({ status: currentTarget.value })}
      >
        <option value="">All statuses</option>
        {STATUSES.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
      <select
        aria-label="Surface"
        value={source ?? ""}
        onChange={({ currentTarget }) => onChange({ surface: currentTarget.value })}
      >
        <option value="">Pipelines and scripts</option>
        <option value="pipeline">Pipelines only</option>
        <option value="script">Scripts only</option>
      </select>
    </div>
  );
}

/** The runs of the lists that match, each once; the latest record of a run is in the last list. */
export function filterRuns(lists: RunRecord[][], { status, source, words }: Wanted): RunRecord[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const byId = new Map(lists.flat().map((run) => [run.run_id, run]));
  return [...byId.values()]
    .filter((run) => status === undefined || run.status === status)
    .filter((run) => source === undefined || run.source === source)
    .filter((run) => {
      if (wanted.length === 0) return true;
      const { run_id, label, cmd, key_name } = run;
      const text = [nameOf(run), run_id, label ?? "", cmd, key_name, run.status].join(" ").toLowerCase();
      return wanted.every((word) => text.includes(word));
    })
    .toSorted((a, b) => b.started_at - a.started_at);
}

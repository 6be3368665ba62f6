import type { RunRecord, RunStatus } from "../../host-agent/protocol/run.ts";

/** The status by shape, colour and word. */
export function StatusMark({ run }: { run: Pick<RunRecord, "status" | "ended_at"> }) {
  const isStopping = run.status === "killed" && run.ended_at === null;
  return (
    <span class={`status ${run.status}`}>
      <StatusShape status={run.status} />
      {isStopping ? "stopping" : run.status}
    </span>
  );
}

const SHAPES: Record<RunStatus, string> = {
  running: "M5 3l8 5-8 5z",
  completed: "M3 8.5l3.5 3.5L13 4.5",
  failed: "M4 4l8 8M12 4l-8 8",
  killed: "M4 4h8v8H4z",
  unknown: "M5.5 6a2.5 2.5 0 1 1 3.4 2.3c-.6.3-.9.7-.9 1.4M8 12.4v.2",
};

function StatusShape({ status }: { status: RunStatus }) {
  const isFilled = status === "running" || status === "killed";
  return (
    <svg viewBox="0 0 16 16" width="12" height="12" aria-hidden="true">
      <path
        d={SHAPES[status]}
        fill={isFilled ? "currentColor" : "none"}
        stroke={isFilled ? "none" : "currentColor"}
        stroke-width="2.2"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}

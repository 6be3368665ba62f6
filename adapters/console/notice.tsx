import type { ComponentChildren } from "preact";

import { HubError } from "../client/hub-error.ts";
import { isOutage } from "./api.ts";

interface NoticeProps {
  kind: "empty" | "problem";
  title: string;
  children?: ComponentChildren;
}

/** An unusual state: what it is, and what to do. */
export function Notice({ kind, title, children }: NoticeProps) {
  return (
    <section class={`notice ${kind}`} role={kind === "problem" ? "alert" : "status"} tabIndex={-1}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

/** Why a request failed, and what to do. */
export function Failure({ error, onRetry }: { error: Error; onRetry?: (() => void) | undefined }) {
  const { title, advice } = explain(error);
  return (
    <Notice kind="problem" title={title}>
      <p>{error.message}</p>
      {advice && <p>{advice}</p>}
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Retry
        </button>
      )}
    </Notice>
  );
}

/** The failure of a request that the page repeats by itself: nothing while the connection bar reports it. */
export function PollFailure({ error, onRetry }: { error: Error; onRetry(): void }) {
  return isOutage(error) ? null : <Failure error={error} onRetry={onRetry} />;
}

function explain(error: Error): { title: string; advice?: string } {
  if (!(error instanceof HubError)) return { title: "This page has an error" };
  if (error.kind === "no-answer") {
    return { title: "The Hub does not answer", advice: "Check the network, and that the Hub is running." };
  }
  if (error.kind === "not-a-hub") {
    return {
      title: "Another server answered",
      advice: "A proxy between this page and the Hub may be misconfigured.",
    };
  }
  switch (error.code) {
    case "insufficient_scope":
      return {
        title: "This key does not have the scope",
        advice: "Ask the operator for a key with this scope, or remove this key and use another.",
      };
    case "run_not_found":
      return {
        title: "Unknown run",
        advice: "It may belong to another Hub, or the link may be wrong.",
      };
    case "log_gone":
      return {
        title: "The log does not exist",
        advice: "The run's record is correct; its log file was removed on the host.",
      };
    case "too_many_runs":
      return {
        title: "Too many runs",
        advice: "Wait until a run ends, or stop one. Then launch again.",
      };
    case "agent_unavailable":
    case "agent_timeout":
    case "agent_error":
    case "host_unavailable":
      return {
        title: "The host cannot be reached",
        advice: "Runs continue. If this lasts, ask the operator to check the host-agent.",
      };
    default:
      return { title: error.status >= 500 ? "The Hub has an internal error" : "The Hub refused the request" };
  }
}

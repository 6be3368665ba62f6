import type { ComponentChildren } from "preact";

import { HubError } from "../client/hub-error.ts";

interface NoticeProps {
  kind: "empty" | "problem";
  title: string;
  children?: ComponentChildren;
}

/** A state that is not the usual one: what it is, and what to do. */
export function Notice({ kind, title, children }: NoticeProps) {
  return (
    <section class={`notice ${kind}`} role={kind === "problem" ? "alert" : "status"}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

/** What went wrong with a request, in words that say what to do. */
export function Failure({ error, onRetry }: { error: Error; onRetry?: (() => void) | undefined }) {
  const { title, advice } = explain(error);
  return (
    <Notice kind="problem" title={title}>
      <p>{error.message}</p>
      {advice && <p>{advice}</p>}
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </Notice>
  );
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
        title: "This key may not do that",
        advice: "Ask the operator for a key with that scope, or forget this key and use another.",
      };
    case "run_not_found":
      return {
        title: "There is no such run",
        advice: "It may belong to another Hub, or be misspelt in the link.",
      };
    case "log_gone":
      return {
        title: "The log is gone",
        advice: "The run's record is still true; its output was removed on the host.",
      };
    case "too_many_runs":
      return {
        title: "Too many runs are running",
        advice: "Wait for one to end, or stop one, and launch again.",
      };
    case "agent_unavailable":
    case "agent_timeout":
    case "agent_error":
    case "host_unavailable":
      return {
        title: "The host cannot be reached",
        advice: "Runs go on without us. Ask the operator to look at the host-agent if this lasts.",
      };
    default:
      return { title: error.status >= 500 ? "The Hub has a problem" : "The Hub refused that" };
  }
}

import type { RecordedMoment, Run, Stop, StopCause } from "../store/run.ts";
import { after, type Moment } from "../system/clock.ts";

/** A run that is over its time, or its log's size, gets this long to end by itself before SIGKILL. */
export const LIMIT_GRACE_MS = 10_000;

/** What may ask for a run to be stopped, or for more of a stop that was ordered. */
export type StopEvent =
  | {
      type: "kill";
      signal: "SIGTERM" | "SIGINT" | "SIGKILL";
      keyName: string;
      /** When SIGKILL follows; undefined for never. */
      deadline: Moment | undefined;
    }
  | {
      /** A round of supervision. */
      type: "round";
      now: Moment;
      /** The limit that the run exceeds now and is to end for. */
      exceeded: Exclude<StopCause, "kill"> | undefined;
    };

export type StopDecision =
  | { do: "nothing" }
  /** A kill of a run that ended by itself, or that an agent is still starting. */
  | { do: "refuse"; why: "ended" | "launching" }
  /** Record this stop, then send its signal unless that was sent. */
  | { do: "record"; stop: Stop }
  /** Send the signal of the recorded stop: nobody has yet. */
  | { do: "send" }
  /** Record this stop, then SIGKILL whatever is left of the run. */
  | { do: "force"; stop: Stop };

/**
 * The whole rule of which signal a run gets, and when. It looks at nothing and changes nothing: who carries a decision
 * out records it by compare-and-set, and asks again when the run has changed meanwhile.
 *
 * Each process gets a signal once: programs take a second one for an order to drop everything. SIGKILL may be
 * repeated, for nothing of a run notices it twice.
 */
export function nextStop(run: Pick<Run, "status" | "endedAt" | "stop">, event: StopEvent): StopDecision {
  return event.type === "kill" ? onKill(run, event) : onRound(run, event);
}

type KillEvent = Extract<StopEvent, { type: "kill" }>;
type RoundEvent = Extract<StopEvent, { type: "round" }>;

function onKill(
  { status, endedAt, stop }: Pick<Run, "status" | "endedAt" | "stop">,
  { signal, keyName, deadline }: KillEvent,
): StopDecision {
  if (endedAt !== undefined) return status === "killed" ? NOTHING : { do: "refuse", why: "ended" };
  if (status === "launching") return { do: "refuse", why: "launching" };
  if (signal === "SIGKILL") {
    if (status === "killed" && isForced(stop)) return NOTHING;
    // Its signal needs no waiting: the deadline is over.
    const { sent = false, escalated = false } = stop ?? {};
    return { do: "record", stop: { cause: "kill", signal, keyName, sent, deadline: AT_ONCE, escalated } };
  }
  // A limit's stop becomes the kill's, which sends its own signal.
  if (stop?.cause !== "kill") {
    const escalated = stop?.escalated ?? false;
    return { do: "record", stop: { cause: "kill", signal, keyName, sent: false, deadline, escalated } };
  }
  // A kill on top of a kill only says when SIGKILL follows.
  if (deadline !== undefined && stop.deadline === undefined && !(status === "killed" && isForced(stop))) {
    return { do: "record", stop: { ...stop, deadline } };
  }
  return isDue(stop) ? SEND : NOTHING;
}

function onRound(
  { status, endedAt, stop }: Pick<Run, "status" | "endedAt" | "stop">,
  { now, exceeded }: RoundEvent,
): StopDecision {
  if (endedAt !== undefined || status === "launching") return NOTHING;
  const graceEnds = after(now, LIMIT_GRACE_MS);
  if (stop === undefined) {
    if (exceeded === undefined) return NOTHING;
    const byLimit = { cause: exceeded, signal: "SIGTERM", keyName: undefined, deadline: graceEnds };
    return { do: "record", stop: { ...byLimit, sent: false, escalated: false } };
  }
  if (!stop.sent) return SEND;
  if (exceeded !== undefined && (stop.deadline === undefined || !isReached(stop.deadline, graceEnds))) {
    // It has ignored a kill, or has a longer grace than its time: it has had its signal, and ends with the limit's.
    return { do: "record", stop: { ...stop, deadline: graceEnds } };
  }
  if (stop.deadline !== undefined && isReached(stop.deadline, now)) {
    return { do: "force", stop: { ...stop, escalated: stop.signal !== "SIGKILL" } };
  }
  return NOTHING;
}

const NOTHING: StopDecision = { do: "nothing" };
const SEND: StopDecision = { do: "send" };
const AT_ONCE: Moment = { at: 0, uptime: 0 };

/** By the time since the boot: a run that is alive is of this boot, and the wall clock may have been set meanwhile. */
function isReached(deadline: RecordedMoment, now: Moment): boolean {
  return deadline.uptime === undefined ? now.at >= deadline.at : now.uptime >= deadline.uptime;
}

/** SIGKILL was ordered, or has followed. */
function isForced(stop: Stop | undefined): boolean {
  return stop !== undefined && (stop.signal === "SIGKILL" || stop.escalated);
}

/** True when the stop's signal is to be sent: never a second time, except for SIGKILL. */
export function isDue({ sent, signal }: Stop): boolean {
  return !sent || signal === "SIGKILL";
}

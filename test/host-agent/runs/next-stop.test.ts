import { expect, test } from "vitest";

import {
  LIMIT_GRACE_MS,
  nextStop,
  type StopDecision,
  type StopEvent,
} from "../../../host-agent/runs/next-stop.ts";
import type { RecordedMoment, Run, Stop, StopCause } from "../../../host-agent/store/run.ts";
import { after, type Moment } from "../../../host-agent/system/clock.ts";

test("a run that is over a limit gets ten seconds to end by itself", () => {
  expect(LIMIT_GRACE_MS).toBe(10_000);
});

const NOW: Moment = { at: 1_000_000, uptime: 50_000 };
const GRACE_ENDS = after(NOW, LIMIT_GRACE_MS);
const SOON = after(GRACE_ENDS, -1);
const LATE = after(GRACE_ENDS, 1);
const DAY_MS = 86_400_000;

/** Deadlines that are over now. */
const REACHED: RecordedMoment[] = [
  NOW,
  after(NOW, -1),
  // Of an earlier version.
  { at: NOW.at, uptime: undefined },
  // The wall clock was set back since.
  { at: NOW.at + DAY_MS, uptime: NOW.uptime },
];
/** Deadlines within a limit's grace period. */
const WITHIN_GRACE: RecordedMoment[] = [GRACE_ENDS, SOON, { at: GRACE_ENDS.at, uptime: undefined }];
/** Deadlines that a limit's grace period cuts short. */
const BEYOND_GRACE: RecordedMoment[] = [
  LATE,
  { at: LATE.at, uptime: undefined },
  // The wall clock was set ahead since.
  { at: NOW.at - DAY_MS, uptime: LATE.uptime },
];
const DEADLINES = [undefined, ...REACHED, ...WITHIN_GRACE, ...BEYOND_GRACE];

type State = Pick<Run, "status" | "endedAt" | "stop">;

const CAUSES: StopCause[] = ["kill", "timeout", "log_limit"];
const SIGNALS = ["SIGTERM", "SIGINT", "SIGKILL"] as const;
const STOPS: (Stop | undefined)[] = [
  undefined,
  ...CAUSES.flatMap((cause) =>
    SIGNALS.flatMap((signal) =>
      DEADLINES.flatMap((deadline) =>
        [true, false].flatMap((sent) =>
          [true, false].map((escalated) => ({ cause, signal, keyName: "first", sent, deadline, escalated })),
        ),
      ),
    ),
  ),
];
const STATES: State[] = STOPS.flatMap((stop) => [
  { status: "launching" as const, endedAt: undefined, stop },
  { status: "running" as const, endedAt: undefined, stop },
  { status: "killed" as const, endedAt: undefined, stop },
  { status: "killed" as const, endedAt: NOW.at, stop },
  { status: "completed" as const, endedAt: NOW.at, stop },
  { status: "failed" as const, endedAt: NOW.at, stop },
  { status: "unknown" as const, endedAt: NOW.at, stop },
]);
const KILLS = SIGNALS.flatMap((signal) =>
  [undefined, LATE].map((deadline) => ({ type: "kill" as const, signal, keyName: "second", deadline })),
);
const ROUNDS = ([undefined, "timeout", "log_limit"] as const).map((exceeded) => ({
  type: "round" as const,
  now: NOW,
  exceeded,
}));

interface Rule<E> {
  name: string;
  when(state: State, event: E): boolean;
  decision: StopDecision["do"] | ((state: State, event: E) => StopDecision);
}

const isLive = ({ endedAt, status }: State) => endedAt === undefined && status !== "launching";
/** SIGKILL was ordered, or has followed. */
const isForced = ({ stop }: State) => stop?.signal === "SIGKILL" || stop?.escalated === true;
/** The recorded stop. */
const stopOf = ({ stop }: State) => stop!;

/** Read from the top: the first that applies decides. */
const KILL_RULES: Rule<(typeof KILLS)[number]>[] = [
  {
    name: "a killed run that has ended stays killed",
    when: (s) => s.endedAt !== undefined && s.status === "killed",
    decision: "nothing",
  },
  {
    name: "a run that ended by itself cannot be killed",
    when: (s) => s.endedAt !== undefined,
    decision: () => ({ do: "refuse", why: "ended" }),
  },
  {
    name: "a run that is being started cannot be killed yet",
    when: (s) => s.status === "launching",
    decision: () => ({ do: "refuse", why: "launching" }),
  },
  {
    name: "SIGKILL is not ordered a second time",
    when: (s, e) => s.status === "killed" && isForced(s) && e.signal === "SIGKILL",
    decision: "nothing",
  },
  {
    name: "SIGKILL replaces any other stop, and needs no grace",
    when: (_s, e) => e.signal === "SIGKILL",
    decision: ({ stop }) => ({
      do: "record",
      stop: {
        cause: "kill",
        signal: "SIGKILL",
        keyName: "second",
        sent: stop?.sent ?? false,
        deadline: { at: 0, uptime: 0 },
        escalated: stop?.escalated ?? false,
      },
    }),
  },
  {
    name: "a kill replaces a limit's stop, and sends its own signal",
    when: (s) => s.stop?.cause !== "kill",
    decision: ({ stop }, { signal, deadline }) => ({
      do: "record",
      stop: {
        cause: "kill",
        signal,
        keyName: "second",
        sent: false,
        deadline,
        escalated: stop?.escalated ?? false,
      },
    }),
  },
  {
    name: "a kill that SIGKILL has followed gets no grace period any more",
    when: (s) => s.status === "killed" && isForced(s),
    decision: (s) => ({ do: !stopOf(s).sent || stopOf(s).signal === "SIGKILL" ? "send" : "nothing" }),
  },
  {
    name: "a repeated kill only adds a grace period where none was given",
    when: (s, e) => e.deadline !== undefined && stopOf(s).deadline === undefined,
    decision: (s, e) => ({ do: "record", stop: { ...stopOf(s), deadline: e.deadline } }),
  },
  { name: "a kill that was recorded and not sent is sent", when: (s) => !stopOf(s).sent, decision: "send" },
  { name: "SIGKILL is sent again", when: (s) => stopOf(s).signal === "SIGKILL", decision: "send" },
  { name: "another repeated kill changes nothing", when: () => true, decision: "nothing" },
];

const ROUND_RULES: Rule<(typeof ROUNDS)[number]>[] = [
  { name: "a run that is not live is left alone", when: (s) => !isLive(s), decision: "nothing" },
  {
    name: "a run within its limits goes on",
    when: (s, e) => s.stop === undefined && e.exceeded === undefined,
    decision: "nothing",
  },
  {
    name: "a run over a limit is stopped with a grace period",
    when: (s) => s.stop === undefined,
    decision: (_s, { exceeded }) => ({
      do: "record",
      stop: {
        cause: exceeded!,
        signal: "SIGTERM",
        keyName: undefined,
        sent: false,
        deadline: GRACE_ENDS,
        escalated: false,
      },
    }),
  },
  { name: "a stop that was recorded and not sent is sent", when: (s) => !stopOf(s).sent, decision: "send" },
  {
    name: "a run over a limit ends no later than the limit's grace period",
    when: (s, e) =>
      e.exceeded !== undefined &&
      (stopOf(s).deadline === undefined || BEYOND_GRACE.includes(stopOf(s).deadline!)),
    decision: (s) => ({ do: "record", stop: { ...stopOf(s), deadline: GRACE_ENDS } }),
  },
  {
    name: "SIGKILL follows at the deadline",
    when: (s) => REACHED.includes(stopOf(s).deadline!),
    decision: (s) => ({ do: "force", stop: { ...stopOf(s), escalated: stopOf(s).signal !== "SIGKILL" } }),
  },
  { name: "before the deadline nothing happens", when: () => true, decision: "nothing" },
];

test.for([
  ["a kill", KILLS, KILL_RULES],
  ["a round of supervision", ROUNDS, ROUND_RULES],
] as [string, StopEvent[], Rule<StopEvent>[]][])(
  "nextStop decides each combination of state and %s by the first rule that applies",
  ([, events, rules]) => {
    const used = new Set<string>();
    for (const state of STATES) {
      for (const event of events) {
        const rule = rules.find(({ when }) => when(state, event))!;
        used.add(rule.name);
        const expected =
          typeof rule.decision === "string" ? { do: rule.decision } : rule.decision(state, event);
        expect(nextStop(state, event), `${rule.name}: ${JSON.stringify({ state, event })}`).toEqual(expected);
      }
    }
    expect(rules.map(({ name }) => name).filter((name) => !used.has(name))).toEqual([]);
  },
);

test("nextStop changes neither the run nor the event", () => {
  for (const state of STATES) {
    for (const event of [...KILLS, ...ROUNDS]) {
      const before = JSON.stringify([state, event]);
      nextStop(state, event);
      expect(JSON.stringify([state, event])).toBe(before);
    }
  }
});

import { describe, expect, test } from "vitest";

import { EXCUSES, type Circumstances, type Excuse, type Fault, isExcused } from "./excuses.ts";
import { createFacts } from "./facts.ts";

const RUN_ID = "run_0123456789ab";
const NEVER_STARTED = "The command was never started: its wrapper ended before.";
const REBOOTED = "The host was restarted while it ran, and its log does not tell how it ended.";
const STARTED = { runId: RUN_ID, jobId: "j0", starts: 1, linesLost: undefined };
const ENDED = { ...STARTED, linesLost: 0 };
const BY_TERM = { order: {}, answer: "accepted" } as const;

interface Story extends Partial<Omit<Circumstances, "record" | "harm" | "lacked" | "lackedAtLaunch">> {
  status?: Circumstances["record"]["status"];
  reason?: string;
  code?: number | null;
  harm?: string;
  lacked?: "blocks" | "inodes";
  lackedAtLaunch?: "blocks" | "inodes";
}

/** An acknowledged run that failed by itself, except for what the story says. */
function circumstances(story: Story): Circumstances {
  const { status, reason, code, harm, lacked, lackedAtLaunch, ...others } = story;
  const record = {
    run_id: RUN_ID,
    status: status ?? "failed",
    status_reason: reason ?? "The command exited with code 9.",
    exit_code: code === undefined ? 9 : code,
  };
  return {
    record,
    entry: undefined,
    isAcknowledged: true,
    isTerminal: false,
    kill: undefined,
    powerLost: false,
    ...others,
    harm: new Set(harm === undefined ? [] : [harm]),
    lacked: new Set(lacked === undefined ? [] : [lacked]),
    lackedAtLaunch: new Set(lackedAtLaunch === undefined ? [] : [lackedAtLaunch]),
  };
}

/** For each excuse: a run that it excuses, and forged ones with the same harm but not its effect, or the effect without the harm. */
const CASES: [Fault, string, Story, Story[]][] = [
  [
    "never ran",
    "its wrapper was sent SIGKILL",
    { harm: "wrapper SIGKILL", status: "unknown", code: null },
    [
      { status: "unknown", code: null },
      { harm: "wrapper SIGKILL", code: 9 },
      { harm: "wrapper SIGKILL", status: "completed", code: 0 },
      { harm: "wrapper SIGKILL", code: null, reason: "Its log has an error." },
    ],
  ],
  [
    "never ran",
    "its wrapper was sent SIGTERM before it could catch it",
    { harm: "wrapper SIGTERM", code: null, reason: NEVER_STARTED },
    [
      { code: null, reason: NEVER_STARTED },
      { harm: "wrapper SIGTERM", code: 9 },
      { harm: "wrapper SIGTERM", status: "unknown", code: null },
      { harm: "wrapper SIGTERM", code: null, reason: NEVER_STARTED, entry: ENDED },
    ],
  ],
  ...(["SIGKILL", "SIGTERM"] as const).flatMap((signal): [Fault, string, Story, Story[]][] => {
    const code = signal === "SIGKILL" ? 137 : 143;
    const harm = `job ${signal}`;
    const forged: Story[] = [
      { code },
      { harm, code: 9 },
      { harm, code: null },
      { harm: "job SIGSTOP", code },
    ];
    const reason = `The command exited with code 0, but the end of its log has an error: ${signal === "SIGKILL" ? "Killed" : "Terminated"}`;
    return [
      ["never ran", `its command was sent ${signal}`, { harm, code }, forged],
      ["cut short", `its command was sent ${signal}`, { harm, code, entry: STARTED }, forged],
      ["another exit code", `its command was sent ${signal}`, { harm, code }, forged.slice(0, 2)],
      [
        "failed with exit code 0",
        `a process of its command was sent ${signal}, and the shell reports it in the log`,
        { harm, code: 0, reason },
        [
          { code: 0, reason },
          { harm, code: 0 },
        ],
      ],
      [
        "words of the shell in the log",
        `its command was sent ${signal}`,
        { harm },
        [{}, { harm: "wrapper SIGKILL" }],
      ],
      [
        "torn last line of the log",
        `its command was sent ${signal}`,
        { harm, entry: STARTED },
        [{ entry: STARTED }, { harm, entry: ENDED }],
      ],
    ];
  }),
  ...(["never ran", "no exit code"] as const).map((fault): [Fault, string, Story, Story[]] => [
    fault,
    "the disk was full when it was launched",
    { lackedAtLaunch: "inodes", code: null, reason: NEVER_STARTED },
    [
      { code: null, reason: NEVER_STARTED },
      { lacked: "blocks", code: null, reason: NEVER_STARTED },
      { lackedAtLaunch: "blocks", status: "unknown", code: null },
      { lackedAtLaunch: "blocks", code: 9 },
      { lackedAtLaunch: "blocks", code: null, reason: NEVER_STARTED, entry: ENDED },
    ],
  ]),
  ...(["never ran", "cut short"] as const).map((fault): [Fault, string, Story, Story[]] => [
    fault,
    "it was killed",
    { kill: BY_TERM, status: "killed", code: 143 },
    [
      { status: "killed", code: 143 },
      { kill: BY_TERM, code: 143 },
      { kill: { order: {}, answer: "refused" }, status: "killed", code: 143 },
    ],
  ]),
  ...(["never ran", "cut short", "no exit code"] as const).map((fault): [Fault, string, Story, Story[]] => [
    fault,
    "the host lost power",
    { powerLost: true, status: "unknown", code: null, reason: REBOOTED },
    [
      { status: "unknown", code: null, reason: REBOOTED },
      { powerLost: true, status: "unknown", code: null },
      { powerLost: true, code: null, reason: "Launch interrupted: before the command was started." },
      { powerLost: true, code: 9 },
    ],
  ]),
  [
    "no exit code",
    "its wrapper was sent SIGKILL",
    { harm: "wrapper SIGKILL", status: "unknown", code: null, entry: ENDED },
    [
      { status: "unknown", code: null, entry: ENDED },
      { harm: "wrapper SIGKILL", status: "completed", code: null },
      { harm: "wrapper SIGTERM", status: "unknown", code: null },
      { harm: "job SIGKILL", status: "unknown", code: null },
      { harm: "wrapper SIGKILL", code: null, reason: NEVER_STARTED, entry: ENDED },
    ],
  ],
  [
    "no exit code",
    "its wrapper was sent SIGTERM before it could catch it",
    { harm: "wrapper SIGTERM", code: null, reason: NEVER_STARTED },
    [{ harm: "wrapper SIGTERM", status: "unknown", code: null, entry: ENDED }, { code: null }],
  ],
  [
    "no exit code",
    "a kill by SIGKILL ended its wrapper too",
    { kill: { order: { signal: "SIGKILL" }, answer: "accepted" }, status: "killed", code: null },
    [
      { kill: BY_TERM, status: "killed", code: null },
      { kill: { order: { signal: "SIGKILL" }, answer: "refused" }, status: "killed", code: null },
      { kill: { order: { grace_seconds: 0 }, answer: "accepted" }, status: "killed", code: null },
      { kill: { order: { signal: "SIGKILL" }, answer: "accepted" }, status: "unknown", code: null },
    ],
  ],
  [
    "no exit code",
    "its launch was interrupted, and no client has its id",
    { isAcknowledged: false, code: null, reason: "Launch interrupted: before the command was started." },
    [
      { code: null, reason: "Launch interrupted: before the command was started." },
      { isAcknowledged: false, code: null },
    ],
  ],
  [
    "another exit code",
    "it was killed",
    { kill: BY_TERM, status: "killed", code: 143 },
    [
      { kill: BY_TERM, status: "failed", code: 143 },
      { kill: BY_TERM, status: "killed", code: 137 },
      { kill: BY_TERM, status: "killed", code: 8 },
    ],
  ],
  [
    "killed without an answer",
    "the answer to its kill was lost",
    { kill: { order: {}, answer: "uncertain" }, status: "killed" },
    [{ status: "killed" }, { kill: { order: {}, answer: "refused" }, status: "killed" }],
  ],
  [
    "log lacks lines",
    "the disk was full, which its pump hides from the job",
    { lacked: "blocks", entry: ENDED },
    [{ entry: ENDED }, { lacked: "inodes", entry: ENDED }],
  ],
  [
    "log lacks lines",
    "the host lost power before the end of the log was on the disk",
    { powerLost: true, entry: ENDED },
    [{ entry: ENDED }],
  ],
  [
    "words of the shell in the log",
    "it was killed",
    { kill: BY_TERM, status: "killed" },
    [{ kill: BY_TERM }, { status: "killed" }],
  ],
  [
    "torn last line of the log",
    "it was killed",
    { kill: BY_TERM, status: "killed", entry: STARTED },
    [
      { kill: BY_TERM, status: "killed", entry: ENDED },
      { kill: BY_TERM, entry: STARTED },
    ],
  ],
  [
    "torn last line of the log",
    "the disk was full",
    { lacked: "blocks", entry: ENDED },
    [{ entry: ENDED }, { lacked: "inodes", entry: ENDED }],
  ],
  ["torn last line of the log", "the host lost power", { powerLost: true, entry: ENDED }, [{ entry: ENDED }]],
];

const nameOf = ({ fault, because }: Pick<Excuse, "fault" | "because">) => `${fault}: ${because}`;

describe("an excuse of the crash harness", () => {
  test.for(CASES)(
    "for a run that has the fault '%s' because %s is counted, and covers no forged record with only the harm or only the effect",
    ([fault, because, excused, forged]) => {
      const facts = createFacts();
      expect(isExcused(fault, circumstances(excused), facts)).toBe(true);
      expect([...facts.excused]).toEqual([[nameOf({ fault, because }), 1]]);
      for (const story of forged) {
        expect({ story, isExcused: isExcused(fault, circumstances(story), facts) }).toEqual({
          story,
          isExcused: false,
        });
      }
      expect([...facts.excused]).toEqual([[nameOf({ fault, because }), 1]]);
    },
  );

  test("has a forged record for each line of the list", () => {
    const tried = CASES.map(([fault, because]) => nameOf({ fault, because }));
    expect(tried.toSorted()).toEqual(EXCUSES.map(nameOf).toSorted());
  });
});

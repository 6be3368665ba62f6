/** What must be true of one run, as far as the commands so far decide it. */
export interface ModelRun {
  id: string;
  kind: "ends" | "waits" | "ignores TERM";
  code: number;
  /** What the API must call it once it has ended; interrupted is one that never started and whose launch was lost. */
  fate: "its own" | "killed" | "interrupted";
  isKilledForGood: boolean;
}

export interface Model {
  runs: ModelRun[];
  /** Of each key: the run, and when it was launched. */
  keys: Map<string, { run: ModelRun; at: number }>;
  now: number;
}

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

const RESTART_PAUSE_MS = 50;
const STOP_PATIENCE_MS = 20_000;

/** A program that is started again whenever it ends, as a service manager does. */
export type Keeper = ReturnType<typeof keep>;

/** Keeps `node file ...args` running until `stop`, by the command `prefix` and as the user `uid`. */
export function keep(
  name: string,
  args: string[],
  {
    env,
    prefix = [],
    uid,
  }: { env: Record<string, string>; prefix?: readonly string[]; uid?: number | undefined },
) {
  let child: ChildProcess;
  let stopped = false;
  let halted = false;
  let starts = 0;
  let output = "";

  function start(): ChildProcess {
    starts++;
    const words = [...prefix, process.execPath, ...args];
    const started = spawn(words[0]!, words.slice(1), {
      env,
      stdio: ["ignore", "pipe", "pipe"],
      ...(uid !== undefined && { uid, gid: uid }),
    });
    for (const stream of [started.stdout, started.stderr]) {
      stream.on("data", (data) => (output = (output + String(data)).slice(-20_000)));
    }
    return started;
  }

  const isHalted = () => halted && !stopped;

  async function run(): Promise<void> {
    // oxlint-disable-next-line no-unmodified-loop-condition -- stop() changes it
    while (!stopped) {
      child = start();
      await once(child, "exit");
      do await sleep(stopped ? 0 : RESTART_PAUSE_MS);
      while (isHalted());
    }
  }
  const running = run();

  return {
    name,
    starts: () => starts,
    pid: () => child.pid!,
    /** The end of all that it has written. */
    output: () => output,
    signal: (signal: NodeJS.Signals) => child.kill(signal),
    /** Does not start it again until `resume`. */
    halt: () => void (halted = true),
    resume: () => void (halted = false),
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    /** Ends it with SIGTERM; throws when it does not end by that. */
    async stop(): Promise<void> {
      stopped = true;
      const patience = setTimeout(() => child.kill("SIGKILL"), STOP_PATIENCE_MS);
      child.kill("SIGCONT");
      child.kill("SIGTERM");
      await running;
      clearTimeout(patience);
      if (child.signalCode === "SIGKILL") throw new Error(`${name} did not stop: ${output}`);
    },
  };
}

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

const RESTART_PAUSE_MS = 50;
const STOP_PATIENCE_MS = 20_000;

/** A program that is started again whenever it ends, as a service manager does. */
export type Keeper = ReturnType<typeof keep>;

/** Keeps `node file ...args` running until `stop`. */
export function keep(name: string, args: string[], env: Record<string, string>) {
  let child: ChildProcess;
  let stopped = false;
  let starts = 0;
  let output = "";

  function start(): ChildProcess {
    starts++;
    const started = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [started.stdout, started.stderr]) {
      stream.on("data", (data) => (output = (output + String(data)).slice(-20_000)));
    }
    return started;
  }

  async function run(): Promise<void> {
    // oxlint-disable-next-line no-unmodified-loop-condition -- stop() changes it
    while (!stopped) {
      child = start();
      await once(child, "exit");
      if (!stopped) await sleep(RESTART_PAUSE_MS);
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

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

/** A service that starts commands over HTTP. An operation that it does not have is left out. */
export interface Peer extends AsyncDisposable {
  name: string;
  /** Starts /bin/true; `slot` is 0 to 15, and no two calls with one slot are in progress at the same time. */
  launch(slot: number): Promise<void>;
  /** Reads what is known of the command that was started last. */
  status?(): Promise<void>;
  /** Reads 64 KiB in the middle of a log of 20 MB. */
  logPage?(): Promise<void>;
}

export const LOG_BYTES = 20_000_000;
export const PAGE_BYTES = 65_536;

/** True when `program` is installed. */
export function isInstalled(program: string): boolean {
  return spawnSync("/bin/sh", ["-c", 'command -v "$0"', program], { stdio: "ignore" }).status === 0;
}

/** Starts a server in the foreground, and returns once `url` is answered, whatever the answer. Throws after ten seconds. */
export async function startProgram(argv: string[], url: string): Promise<AsyncDisposable> {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: "ignore" });
  const program = {
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    },
  };
  for (let tries = 0; tries < 200; tries++) {
    const isUp = await fetch(url).then(
      (response) => response.text().then(() => true),
      () => false,
    );
    if (isUp) return program;
    await sleep(50);
  }
  await program[Symbol.asyncDispose]();
  throw new Error(`${argv[0]} does not answer at ${url}`);
}

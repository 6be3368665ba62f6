import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import type { Deploy } from "./hub.ts";

const NODE_TS = join(import.meta.dirname, "..", "adapters", "node.ts");

export type StopSignal = "SIGTERM" | "SIGINT" | "SIGKILL";

/** What is left of a server that has ended. */
export interface Ended {
  code: number | null;
  signal: string | null;
  output: string;
}

/** One after the other, servers as processes of their own: what they lose with a signal is lost. */
export function serverProcesses() {
  let current: { child: ChildProcess; output: () => string } | undefined;

  async function end(signal: StopSignal): Promise<Ended> {
    const { child, output } = current!;
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "close");
      child.kill(signal);
      await exited;
    }
    return { code: child.exitCode, signal: child.signalCode, output: output() };
  }

  const deploy: Deploy = async ({ env }) => {
    const child = spawn(process.execPath, [NODE_TS], {
      env: { HUB_PORT: "0", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
        const url = /^ *address +(http:\S+)$/m.exec(output)?.[1];
        if (url !== undefined) resolve(url);
      });
    }
    child.once("close", () => reject(new Error(`the server ended before it listened: ${output}`)));
    current = { child, output: () => output };
    const url = await promise;
    return { url, stop: async () => void (await end("SIGTERM")) };
  };

  return { deploy, end };
}

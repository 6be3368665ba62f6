import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import type { Deploy } from "./hub.ts";

const NODE_TS = fileURLToPath(new URL("../adapters/node.ts", import.meta.url));

/**
 * The Node adapter as a process of its own, so that it can be measured and
 * killed. `stop` sends `stopSignal`: with SIGKILL, a restart is a crash.
 * `onStart` learns the pid of each server.
 */
export function serverProcess({
  stopSignal,
  onStart = () => {},
}: {
  stopSignal: "SIGTERM" | "SIGKILL";
  onStart?: (pid: number) => void;
}): Deploy {
  return async ({ env }) => {
    const server = spawn(process.execPath, [NODE_TS], {
      env: { ...env, HUB_PORT: "0" },
      stdio: ["ignore", "pipe", "ignore"],
    });
    const ended = once(server, "exit");
    onStart(server.pid!);
    return {
      url: await announcedUrl(server),
      async stop() {
        server.kill(stopSignal);
        await ended;
      },
    };
  };
}

async function announcedUrl(server: ChildProcess): Promise<string> {
  let banner = "";
  for await (const piece of server.stdout!.iterator({ destroyOnReturn: false })) {
    banner += String(piece);
    const url = /address +(http:\S+)/.exec(banner)?.[1];
    if (url !== undefined) {
      server.stdout!.resume();
      return url;
    }
  }
  throw new Error(`the server ended before it told its address: ${banner}`);
}

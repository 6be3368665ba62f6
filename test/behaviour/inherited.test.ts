import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Deploy, startHub } from "../support/hub.ts";
import { CAN_BE_NOBODY, WHY_NOT_NOBODY } from "../support/other-user.ts";
import { needs } from "../support/needs.ts";
import { tempDir } from "../support/temp-dir.ts";

const NODE_TS = join(import.meta.dirname, "..", "..", "adapters", "node", "node.ts");

/** A server that a shell starts with open descriptors, of which some are far above the others, and with its own limit of open files. */
const fromShell =
  (file: string): Deploy =>
  async ({ env }) => {
    const opens = `ulimit -S -n 512; exec 9<"$1" 40<"$1" 200<>"$1"; exec "$2" "$3"`;
    const child = spawn("bash", ["-c", opens, "bash", file, process.execPath, NODE_TS], {
      env: { ...env, HUB_PORT: "0" },
      stdio: ["ignore", "pipe", "ignore"],
    });
    let output = "";
    const announced = new Promise<string>((resolve, reject) => {
      child.stdout.on("data", (chunk) => {
        output += String(chunk);
        const url = /^ *address +(http:\S+)$/m.exec(output)?.[1];
        if (url !== undefined) resolve(url);
      });
      child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    });
    return {
      url: await announced,
      async stop() {
        const ended = once(child, "exit");
        child.kill("SIGTERM");
        await ended;
      },
    };
  };

/** The descriptors above stderr that the job has, by what they lead to; and its soft limit of open files. */
const JOB = `for fd in /proc/$$/fd/*; do case \${fd##*/} in 0|1|2|255) ;; *) readlink "$fd" ;; esac; done; ulimit -S -n`;

async function outputOf(extra: { terminal?: boolean; env?: Record<string, string> } = {}): Promise<string> {
  const { terminal = false, env = {} } = extra;
  const file = join(tempDir(), "lock");
  writeFileSync(file, "of what started the service", { mode: 0o600 });
  await using hub = await startHub({ deploy: fromShell(file), env });
  chmodSync(hub.dir, 0o755);
  const run = await hub.runScript(JOB, { terminal });
  await hub.ended(run);
  return await hub.log(run);
}

describe("a job inherits nothing by chance of what started the service", () => {
  test("no descriptor, and a limit of open files that select(2) can take, with a terminal and without", async () => {
    expect(await outputOf()).toBe("1024\n");
    expect(await outputOf({ terminal: true })).toMatch(/^(?:\/dev\/\S+\n)*1024\n$/);
  });

  test("no descriptor of root, under HUB_RUN_AS", needs(CAN_BE_NOBODY, WHY_NOT_NOBODY), async () => {
    expect(await outputOf({ env: { HUB_RUN_AS: "nobody" } })).toBe("1024\n");
  });
});

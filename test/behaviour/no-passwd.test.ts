import { spawnSync } from "node:child_process";
import { chownSync, chmodSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, test } from "vitest";

import { readNodeConfig } from "../../adapters/node/config.ts";
import { startHub } from "../support/hub.ts";
import { needs } from "../support/needs.ts";
import { CAN_BE_NOBODY, WHY_NOT_NOBODY } from "../support/other-user.ts";
import { serverProcess } from "../support/server-process.ts";
import { tempDir } from "../support/temp-dir.ts";

/** Without an entry in passwd on any usual machine. */
const UID = 54_321;
const ADAPTERS = fileURLToPath(new URL("../../adapters", import.meta.url));

/** Runs a program of the product as that user. */
function runAs(program: string, args: string[], env: Record<string, string>) {
  const options = {
    uid: UID,
    gid: UID,
    env: { PATH: process.env["PATH"], ...env },
    encoding: "utf8",
  } as const;
  return spawnSync(process.execPath, [join(ADAPTERS, program), ...args], options);
}

describe("a user without an entry in passwd", needs(CAN_BE_NOBODY, WHY_NOT_NOBODY), () => {
  test("can run the service: launches work, and the run's user is the number", async () => {
    const deploy = serverProcess({ stopSignal: "SIGTERM", uid: UID });
    await using hub = await startHub({
      deploy: async (setup) => {
        chmodSync(setup.dir, 0o755);
        chownSync(setup.dir, UID, UID);
        chownSync(join(setup.dir, "keys.json"), UID, UID);
        return deploy(setup);
      },
    });
    const run = await hub.runScript('echo "$USER $HOME $SHELL"');
    await hub.ended(run);
    expect(await hub.log(run)).toBe(`${UID} / /bin/sh\n`);
  });

  test("passes the doctor, which does not blame the recipes", () => {
    const dir = tempDir();
    chownSync(dir, UID, UID);
    const env = {
      HUB_STATE_DIR: join(dir, "state"),
      HUB_KEYS_FILE: join(dir, "keys.json"),
      HUB_PORT: "0",
    };
    const { stdout, stderr } = runAs("doctor/doctor.ts", ["--checks-only", "--json"], env);
    expect(stderr).toBe("");
    const { results } = JSON.parse(stdout) as { results: { status: string }[] };
    expect(results.filter(({ status }) => status === "fail")).toEqual([]);
  });

  test("can call hub without HOME: it ends with a sentence and no stack trace", () => {
    const { stderr, status } = runAs("cli/bin.js", ["recipes"], { HUB_URL: "http://127.0.0.1:1" });
    expect(stderr).toContain("hub: ");
    expect(stderr).not.toMatch(/^ +at /m);
    expect(status).toBe(69);
  });
});

test("a home that is / is not a default script root: every script of the host would be in it", () => {
  expect(readNodeConfig({ HOME: "/" }).agent.scriptRoots).toEqual([]);
  expect(readNodeConfig({ HOME: "/", HUB_SCRIPT_ROOTS: "/" }).agent.scriptRoots).toEqual(["/"]);
});

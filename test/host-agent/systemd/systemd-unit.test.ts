import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { describe, expect, test } from "vitest";

import { readDoorConfig } from "../../../host-agent/config.ts";
import { needs } from "../../support/needs.ts";

const PROJECT = fileURLToPath(new URL("../../..", import.meta.url));
const UNIT = join(PROJECT, "host-agent", "systemd", "hub-agent.service");
/** Where docs/deploy.md installs the project. */
const INSTALLED = "/opt/enterprise-api/";

const HAS_ANALYZE = spawnSync("systemd-analyze", ["--version"]).status === 0;

/** The unit as it would be if the project were installed where it lies, for the user who runs the test. */
async function unitOfThisPlace(): Promise<string> {
  const text = await readFile(UNIT, "utf8");
  return text
    .replaceAll(INSTALLED, PROJECT)
    .replaceAll(INSTALLED.slice(0, -1), PROJECT)
    .replace(/^User=.*$/m, `User=${userInfo().username}`)
    .replace(/^Group=.*$/m, `Group=${userInfo().gid}`);
}

function setting(unit: string, name: string): string | undefined {
  return new RegExp(`^${name}=(.*)$`, "m").exec(unit)?.[1];
}

describe("the systemd unit", () => {
  test(
    "passes systemd-analyze verify without a message",
    needs(HAS_ANALYZE, "systemd-analyze is not installed"),
    async () => {
      const dir = await mkdtemp(join(tmpdir(), "hub-unit-"));
      const path = join(dir, "hub-agent.service");
      await writeFile(path, await unitOfThisPlace());
      const { stdout, stderr } = await promisify(execFile)("systemd-analyze", ["verify", path]);
      await rm(dir, { recursive: true });
      // It also loads the units of the machine, which are not ours to fix.
      expect(`${stdout}${stderr}`.split("\n").filter((line) => line.includes("hub-agent"))).toEqual([]);
    },
  );

  test("stops the agent alone, starts it again, and gives it the state folder that it expects", async () => {
    const unit = await readFile(UNIT, "utf8");
    expect(setting(unit, "KillMode")).toBe("process");
    expect(setting(unit, "Restart")).toBe("always");
    expect(setting(unit, "OOMPolicy")).toBe("continue");
    const stateDir = /^Environment=HUB_STATE_DIR=(.*)$/m.exec(unit)![1]!;
    expect(stateDir).toBe(`/var/lib/${setting(unit, "StateDirectory")}`);
    expect(readDoorConfig({ HUB_STATE_DIR: stateDir }).trustFile).toBe(`${stateDir}/trusted_keys.json`);
  });

  test("has nothing that gives the next agent's runs another view of the files or devices", async () => {
    const unit = await readFile(UNIT, "utf8");
    expect(unit).not.toMatch(
      /^(?:PrivateTmp|PrivateDevices|ProtectSystem|ProtectHome|ProtectClock|DynamicUser|DeviceAllow|RootDirectory)=/m,
    );
  });

  test("starts the agent by a command line that works", async () => {
    const unit = await unitOfThisPlace();
    const [node, ...args] = setting(unit, "ExecStart")!.split(" ");
    const { status, stderr } = spawnSync(node!, args, {
      cwd: setting(unit, "WorkingDirectory"),
      env: { HUB_AGENT_LISTEN: "nonsense" },
      encoding: "utf8",
    });
    // It came as far as to read its settings.
    expect(stderr).toContain("HUB_AGENT_LISTEN: must be host:port");
    expect(status).toBe(78);
  });
});

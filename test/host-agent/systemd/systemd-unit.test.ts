import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { describe, expect, test } from "vitest";

import { readDoorConfig } from "../../../host-agent/config.ts";
import { needs } from "../../support/needs.ts";

const PROJECT = fileURLToPath(new URL("../../..", import.meta.url));
const FOLDER = join(PROJECT, "host-agent", "systemd");
const UNIT = join(FOLDER, "hub-agent.service");
/** The services that start jobs. */
const WITH_JOBS = ["hub-agent.service", "hub.service"];
/** All services. */
const SERVICES = ["hub-agent.service", "hub.service", "hub-edge.service"];
/** Where docs/deploy.md installs the project. */
const INSTALLED = "/opt/enterprise-api/";

const HAS_ANALYZE = spawnSync("systemd-analyze", ["--version"]).status === 0;

/** A unit as it would be if the project were installed in this place, for the user who runs the test. */
async function unitOfThisPlace(name: string): Promise<string> {
  const text = await readFile(join(FOLDER, name), "utf8");
  return text
    .replaceAll(INSTALLED, PROJECT)
    .replaceAll(INSTALLED.slice(0, -1), PROJECT)
    .replace(/^User=.*$/m, `User=${userInfo().username}`)
    .replace(/^Group=.*$/m, `Group=${userInfo().gid}`);
}

function setting(unit: string, name: string): string | undefined {
  return new RegExp(`^${name}=(.*)$`, "m").exec(unit)?.[1];
}

describe("the systemd units", () => {
  test(
    "pass systemd-analyze verify without a message",
    needs(HAS_ANALYZE, "systemd-analyze is not installed"),
    async () => {
      const dir = await mkdtemp(join(tmpdir(), "hub-unit-"));
      const names = await readdir(FOLDER);
      for (const name of names) await writeFile(join(dir, name), await unitOfThisPlace(name));
      const { stdout, stderr } = await promisify(execFile)(
        "systemd-analyze",
        ["verify", ...names.map((name) => join(dir, name))],
        { env: { ...process.env, SYSTEMD_UNIT_PATH: `${dir}:` } },
      );
      await rm(dir, { recursive: true });
      // It also loads the units of the machine, which are not ours to fix.
      expect(`${stdout}${stderr}`.split("\n").filter((line) => /\bhub\b/.test(line))).toEqual([]);
    },
  );

  test("of the agent stop it alone, start it again, and give it the state folder that it expects", async () => {
    const unit = await readFile(UNIT, "utf8");
    expect(setting(unit, "KillMode")).toBe("process");
    expect(setting(unit, "Restart")).toBe("always");
    expect(setting(unit, "OOMPolicy")).toBe("continue");
    const stateDir = /^Environment=HUB_STATE_DIR=(.*)$/m.exec(unit)![1]!;
    expect(stateDir).toBe(`/var/lib/${setting(unit, "StateDirectory")}`);
    expect(readDoorConfig({ HUB_STATE_DIR: stateDir }).trustFile).toBe(`${stateDir}/trusted_keys.json`);
  });

  test.for(WITH_JOBS)(
    "%s has nothing that gives the next agent's runs another view of the files or devices",
    async (name) => {
      const unit = await readFile(join(FOLDER, name), "utf8");
      expect(setting(unit, "KillMode")).toBe("process");
      expect(unit).not.toMatch(
        /^(?:PrivateTmp|PrivateDevices|ProtectSystem|ProtectHome|ProtectClock|DynamicUser|DeviceAllow|RootDirectory)=/m,
      );
    },
  );

  test.for(SERVICES)("%s starts its program by a command line that works", async (name) => {
    const unit = await unitOfThisPlace(name);
    const [node, ...args] = setting(unit, "ExecStart")!.split(" ");
    const { status, stderr } = spawnSync(node!, args, {
      cwd: setting(unit, "WorkingDirectory"),
      env: { HUB_AGENT_NAME: "not a name" },
      encoding: "utf8",
    });
    // It came as far as to read its settings.
    expect(stderr).toContain("HUB_AGENT_NAME: must be");
    expect(status).toBe(78);
  });

  test.for(SERVICES)(
    "%s leaves no core with secrets, and bounds processes and what a process may do",
    async (name) => {
      const unit = await readFile(join(FOLDER, name), "utf8");
      expect(setting(unit, "LimitCORE")).toMatch(/^0(?::infinity)?$/);
      expect(Number(setting(unit, "TasksMax"))).toBeGreaterThan(0);
      expect(setting(unit, "RestrictNamespaces")).toBe("yes");
      expect(setting(unit, "SystemCallArchitectures")).toBe("native");
      expect(setting(unit, "KeyringMode")).toBe("private");
    },
  );

  test("the edge is another user than the jobs, and systemd holds the address of each service", async () => {
    const [agent, edge] = await Promise.all(
      ["hub-agent.service", "hub-edge.service"].map((name) => readFile(join(FOLDER, name), "utf8")),
    );
    expect(setting(edge!, "User")).not.toBe(setting(agent!, "User"));
    const socket = await readFile(join(FOLDER, "hub-agent.socket"), "utf8");
    expect(edge).toContain(`HUB_AGENT_URL=unix:${setting(socket, "ListenStream")}`);
    expect(setting(socket, "SocketGroup")).toBe(setting(edge!, "Group"));
    for (const name of SERVICES) {
      const unit = await readFile(join(FOLDER, name), "utf8");
      expect(setting(unit, "Requires")).toBe(name.replace(".service", ".socket"));
    }
  });
});

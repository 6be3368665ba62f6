import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import {
  type CgroupHost,
  inspectCgroupRoot,
  openCgroupRoot,
} from "../../../host-agent/executor/cgroup-root.ts";
import { tempDir } from "../../support/temp-dir.ts";

// Scratch trees: ordinary folders with files in the kernel's formats. They show what is read and written, and not what a kernel does with it.

/** A folder with the files of a cgroup. */
function scratchCgroup(path: string, files: Record<string, string> = {}): string {
  mkdirSync(path, { recursive: true });
  const all = {
    "cgroup.procs": "",
    "cgroup.kill": "",
    "cgroup.type": "domain\n",
    "cgroup.subtree_control": "",
    ...files,
  };
  for (const [name, text] of Object.entries(all)) writeFileSync(join(path, name), text);
  return path;
}

/** A host whose cgroup2 is mounted at `mount`, and whose agent is in the cgroup `own`. */
function hostWith(mount: string, own: string, isDelegatedUnit = true): CgroupHost {
  return {
    own: () => `4:memory:/elsewhere\n0::${own}\n`,
    mounts: () =>
      `23 28 0:21 / /proc rw - proc proc rw\n30 23 0:26 / ${mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n`,
    isCgroup2: () => true,
    isDelegatedUnit: () => isDelegatedUnit,
  };
}

const text = (...path: string[]) => readFileSync(join(...path), "utf8");

test("auto moves the processes of a container's cgroup into the leaf `agent` before it enables controllers (scratch tree)", () => {
  const mount = tempDir();
  const root = scratchCgroup(join(mount, "box"), {
    "cgroup.procs": "17\n",
    "cgroup.controllers": "cpuset cpu io memory pids\n",
  });
  scratchCgroup(join(root, "agent"));
  const opened = openCgroupRoot("auto", hostWith(mount, "/box"));
  expect(text(root, "agent", "cgroup.procs")).toBe("17");
  // An ordinary file keeps the process, and so nothing may be enabled.
  expect(text(root, "cgroup.subtree_control")).toBe("");
  expect(opened).toMatchObject({ path: root, why: "processes are in it, outside of its leaves" });
});

test("a root without processes of its own gets its controllers enabled one by one (scratch tree)", () => {
  const mount = tempDir();
  const root = scratchCgroup(join(mount, "box"), { "cgroup.controllers": "cpuset memory pids\n" });
  openCgroupRoot(root, hostWith(mount, "/"));
  // Each write replaces the text of an ordinary file from its start.
  expect(text(root, "cgroup.subtree_control")).toBe("+pidsry");
});

test("controllers count as far as the kernel lists them after they were enabled (scratch tree)", () => {
  const mount = tempDir();
  const root = scratchCgroup(join(mount, "box"), { "cgroup.subtree_control": "cpu pids\n" });
  const opened = openCgroupRoot(root, hostWith(mount, "/"));
  expect(opened).toEqual({
    path: root,
    controllers: new Set(["cpu", "pids"]),
    why: "the host does not pass the controllers memory to this cgroup",
  });
});

test("under systemd auto enables no controllers and moves nothing: the next agent could not be started in the cgroup (scratch tree)", () => {
  const mount = tempDir();
  const files = { "cgroup.procs": "17\n", "cgroup.controllers": "cpu memory pids\n" };
  const root = scratchCgroup(join(mount, "system.slice", "hub.service"), files);
  const opened = openCgroupRoot("auto", hostWith(mount, "/system.slice/hub.service"));
  expect(opened.path).toBe(root);
  expect(opened).toMatchObject({ controllers: new Set() });
  expect(opened.why).toContain("restart of the service");
  expect(text(root, "cgroup.subtree_control")).toBe("");
});

test("auto does not use the cgroup of a unit that systemd has not delegated", () => {
  const mount = tempDir();
  scratchCgroup(join(mount, "system.slice", "hub.service"));
  const host = hostWith(mount, "/system.slice/hub.service", false);
  expect(openCgroupRoot("auto", host)).toEqual({ path: undefined, why: "hub.service has no Delegate=yes" });
});

test("auto does not use the root cgroup of the host", () => {
  const mount = tempDir();
  writeFileSync(join(mount, "cgroup.procs"), "");
  expect(openCgroupRoot("auto", hostWith(mount, "/")).why).toContain("root cgroup of the host");
});

test("auto does not use a cgroup without cgroup.kill, as of a kernel before 5.14", () => {
  const mount = tempDir();
  mkdirSync(join(mount, "box"));
  writeFileSync(join(mount, "box", "cgroup.type"), "domain\n");
  expect(openCgroupRoot("auto", hostWith(mount, "/box")).why).toContain("Linux 5.14");
});

test("auto finds nothing where no cgroup2 is mounted", () => {
  const host = { ...hostWith("/nowhere", "/"), mounts: () => "" };
  expect(openCgroupRoot("auto", host).why).toBe("no cgroup2 file system is mounted on this host");
});

test("an agent that was started from the leaf `agent` uses the cgroup above it (scratch tree)", () => {
  const mount = tempDir();
  const root = scratchCgroup(join(mount, "box"));
  scratchCgroup(join(root, "agent"));
  expect(openCgroupRoot("auto", hostWith(mount, "/box/agent")).path).toBe(root);
});

test("a path that is not a cgroup stops the start with the name of the setting", () => {
  const dir = tempDir();
  expect(() => openCgroupRoot(dir)).toThrow(
    `HUB_CGROUP: ${dir} cannot be used: it is not in a cgroup2 file system`,
  );
  const missing = join(dir, "missing");
  expect(() => openCgroupRoot(missing)).toThrow(`HUB_CGROUP: ${missing} cannot be used: it does not exist`);
});

test("an inspection says which controllers could be enabled, and changes nothing (scratch tree)", () => {
  const mount = tempDir();
  const files = { "cgroup.procs": "17\n", "cgroup.controllers": "cpu memory pids\n" };
  const root = scratchCgroup(join(mount, "box"), files);
  const found = inspectCgroupRoot("auto", hostWith(mount, "/box"));
  expect(found).toEqual({ path: root, controllers: new Set(["memory", "cpu", "pids"]), why: undefined });
  expect([text(root, "cgroup.procs"), text(root, "cgroup.subtree_control")]).toEqual(["17\n", ""]);
});

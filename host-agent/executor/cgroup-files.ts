import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { isUnableToLook } from "../system/exhaustion.ts";

// The files of a control group, in the formats of the kernel's Documentation/admin-guide/cgroup-v2.rst.

/** The text of a file of a cgroup; undefined when the cgroup or the file does not exist. Throws when it cannot be looked at now. */
export function readCgroupFile(cgroup: string, name: string): string | undefined {
  try {
    return readFileSync(join(cgroup, name), "latin1");
  } catch (error) {
    // ENODEV: removed while its file was open. EOPNOTSUPP: a threaded cgroup lists its processes in the one above it.
    if (isUnableToLook(error) || !GONE.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
    return undefined;
  }
}

const GONE = new Set(["ENOENT", "ENOTDIR", "ENODEV", "EOPNOTSUPP"]);

/** Writes a value. Throws the errno of the kernel: EBUSY, EINVAL, ENODEV and others. */
export function writeCgroupFile(cgroup: string, name: string, value: string): void {
  // Not created: in a folder that is no cgroup a file of that name would look like a success.
  writeFileSync(join(cgroup, name), value, { flag: "r+" });
}

/** The number behind a key in a file of lines `key value`; undefined without the file or the key. */
export function readCounter(cgroup: string, name: string, key: string): number | undefined {
  const text = readCgroupFile(cgroup, name);
  const value = text && new RegExp(`^${key} (\\d+)$`, "m").exec(text)?.[1];
  return value === undefined || value === "" ? undefined : Number(value);
}

/** Whether a process is alive in the cgroup or below it; undefined when the cgroup does not exist. Zombies do not count. */
export function isPopulated(cgroup: string): boolean | undefined {
  const populated = readCounter(cgroup, "cgroup.events", "populated");
  return populated === undefined ? undefined : populated === 1;
}

/** The cgroup and all below it, the deepest last. A cgroup that is removed meanwhile is left out. */
export function withDescendants(cgroup: string): string[] {
  let names: string[];
  try {
    names = readdirSync(cgroup, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? [entry.name] : [],
    );
  } catch (error) {
    if (isUnableToLook(error) || !GONE.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
    return [];
  }
  return [cgroup, ...names.flatMap((name) => withDescendants(join(cgroup, name)))];
}

/** The pids of the living processes in the cgroup and below it, each once. */
export function pidsIn(cgroup: string): number[] {
  const pids = withDescendants(cgroup).flatMap((each) =>
    (readCgroupFile(each, "cgroup.procs") ?? "").split("\n").filter(Boolean).map(Number),
  );
  // 0: a process that another pid namespace hides.
  return [...new Set(pids)].filter((pid) => pid > 0);
}

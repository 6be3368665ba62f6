import { accessSync, constants, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, onTestFinished } from "vitest";

import { pidsIn, withDescendants, writeCgroupFile } from "../../host-agent/executor/cgroup-files.ts";
import { removeLeaf } from "../../host-agent/executor/cgroup-leaf.ts";
import { until } from "./hub.ts";

/** Where cgroup2 is mounted. */
function mountOf(): string | undefined {
  const line = readFileSync("/proc/self/mountinfo", "latin1")
    .split("\n")
    .find((each) => each.split(" - ")[1]?.startsWith("cgroup2 "));
  return line?.split(" ")[4];
}

/** The cgroup in which this process may make others: its own; undefined where it may not. */
function writablePlace(): string | undefined {
  const mount = mountOf();
  const own = /^0::(\/.*)$/m.exec(readFileSync("/proc/self/cgroup", "latin1"))?.[1];
  if (mount === undefined || own === undefined) return undefined;
  const place = join(mount, own);
  try {
    accessSync(place, constants.W_OK);
    accessSync(join(place, "cgroup.procs"), constants.W_OK);
    return place;
  } catch {
    return undefined;
  }
}

const PLACE = writablePlace();

/** Whether a test can make cgroups here and move its processes into them. */
export const HAS_CGROUP2 = PLACE !== undefined;

let count = 0;

/** An empty cgroup for the test that runs; when that test has finished its processes are killed and it is removed. */
export function tempCgroup(): string {
  const path = makeCgroup();
  onTestFinished(async () => endCgroup(path));
  return path;
}

/** The same for all tests of a describe block; to be called in one where `HAS_CGROUP2`. */
export function sharedCgroup(): string {
  if (!HAS_CGROUP2) return "";
  const path = makeCgroup();
  afterAll(async () => endCgroup(path));
  return path;
}

function makeCgroup(): string {
  const path = join(PLACE!, `hub-test-${process.pid}-${++count}`);
  mkdirSync(path);
  return path;
}

async function endCgroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  writeCgroupFile(path, "cgroup.kill", "1");
  await until(() => removeLeaf(path) || undefined);
}

/** The names of the cgroups directly in this one. */
export function cgroupsIn(path: string): string[] {
  return withDescendants(path)
    .slice(1)
    .map((each) => each.slice(path.length + 1))
    .filter((name) => !name.includes("/"));
}

export { pidsIn };

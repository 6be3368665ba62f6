import { spawnSync } from "node:child_process";
import { mkdirSync, statfsSync } from "node:fs";

import type { BlockDevice, FileSystem } from "../../support/block-device.ts";

const ROOM_KB = 2_000_000;
const FILL_TRIES = 20;
const MANY_INODES = 1_000_000;

/** The disk of the state folder, which can be made full; one on a block device can lose power instead. */
export interface Disk {
  path: string;
  kind: "tmpfs" | "RLIMIT_FSIZE" | FileSystem;
  /** Makes it full; `pids` are the servers, for which it looks full where it cannot be. True when it is. */
  fill(pids: number[]): boolean;
  free(pids: number[]): void;
  /** Leaves no inode for another file. True when it has taken effect. */
  fillInodes(): boolean;
  freeInodes(): void;
  remove(): void;
}

/** A separate file system at `path`; where mounting is not allowed, a folder and a limit on the servers' files. */
export function openDisk(path: string): Disk {
  mkdirSync(path, { mode: 0o700 });
  const isMounted = mount("-t", "tmpfs", "-o", `size=${ROOM_KB}k,mode=0700`, "none", path);
  return isMounted ? tmpfs(path) : limitedFiles(path);
}

/** The disk of a host that loses power; it is never full. */
export function blockDisk(kind: FileSystem, device: BlockDevice): Disk {
  return {
    path: device.mountPoint,
    kind,
    fill: () => false,
    free() {},
    fillInodes: () => false,
    freeInodes() {},
    remove: () => device[Symbol.dispose](),
  };
}

function tmpfs(path: string): Disk {
  /** Not one block more than is in use. */
  function shrink(): boolean {
    const { blocks, bfree, bsize } = statfsSync(path);
    return mount("-o", `remount,size=${((blocks - bfree) * bsize) / 1024}k`, path);
  }
  return {
    path,
    kind: "tmpfs",
    fill() {
      // Refused when more has been written since it was looked at.
      for (let tries = 0; tries < FILL_TRIES; tries++) if (shrink()) return true;
      return false;
    },
    free: () => void mount("-o", `remount,size=${ROOM_KB}k`, path),
    fillInodes() {
      // Refused when more files have been made since it was looked at.
      for (let tries = 0; tries < FILL_TRIES; tries++) {
        const { files, ffree } = statfsSync(path);
        if (mount("-o", `remount,nr_inodes=${files - ffree}`, path)) return true;
      }
      return false;
    },
    freeInodes: () => void mount("-o", `remount,nr_inodes=${MANY_INODES}`, path),
    remove() {
      const { status, stderr } = spawnSync("umount", [path], { encoding: "utf8" });
      if (status !== 0) throw new Error(`cannot unmount ${path}: ${stderr}`);
    },
  };
}

function limitedFiles(path: string): Disk {
  return {
    path,
    kind: "RLIMIT_FSIZE",
    fill: (pids) => limit(pids, "0"),
    free: (pids) => void limit(pids, "unlimited"),
    fillInodes: () => false,
    freeInodes: () => {},
    remove: () => {},
  };
}

function limit(pids: number[], size: string): boolean {
  const done = pids.map((pid) =>
    spawnSync("prlimit", [`--pid=${pid}`, `--fsize=${size}:`], { stdio: "ignore" }),
  );
  return done.some(({ status }) => status === 0);
}

function mount(...args: string[]): boolean {
  return spawnSync("mount", args, { stdio: "ignore" }).status === 0;
}

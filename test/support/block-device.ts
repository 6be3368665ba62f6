import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export type FileSystem = "ext4" | "xfs";

/** The smallest image that mkfs makes a file system of. */
const IMAGE_BYTES: Record<FileSystem, number> = { ext4: 48 * 2 ** 20, xfs: 320 * 2 ** 20 };
const MKFS: Record<FileSystem, string[]> = { ext4: ["mkfs.ext4", "-q", "-F"], xfs: ["mkfs.xfs", "-q", "-f"] };
/** Each repairs what a journal replay leaves; mounting replays the journal. */
const FSCK: Record<FileSystem, string[]> = { ext4: ["e2fsck", "-p"], xfs: ["xfs_repair", "-n"] };

/** A file system on an image file, which can lose power. */
export interface BlockDevice extends Disposable {
  /** Where it is mounted. */
  mountPoint: string;
  /** Copies what is on the disk at this moment, and nothing that the kernel still holds in memory. */
  copy(): void;
  /** Mounts the last copy in place of the file system, as after a loss of power. */
  losePower(): void;
}

/** Whether this user can mount an image with a file system of this kind. */
export function canMount(kind: FileSystem): boolean {
  return process.getuid?.() === 0 && isInstalled(MKFS[kind][0]!) && loopWorks();
}

function isInstalled(program: string): boolean {
  return spawnSync("which", [program], { stdio: "ignore" }).status === 0;
}

/** Waits while a process that was killed still holds a file open. */
function unmount(path: string): void {
  for (let tries = 0; tries < 100; tries++) {
    if (spawnSync("umount", [path], { stdio: "ignore" }).status === 0) return;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
  throw new Error(`${path} cannot be unmounted: a process has a file of it open`);
}

function loopWorks(): boolean {
  return spawnSync("losetup", ["--find"], { stdio: "ignore" }).status === 0;
}

/** Makes a file system of this kind in `dir` and mounts it. Disposing of it unmounts it. */
export function openBlockDevice(kind: FileSystem, dir: string): BlockDevice {
  let [image, copied] = [join(dir, "disk.img"), join(dir, "copy.img")];
  const mountPoint = join(dir, "disk");
  mkdirSync(mountPoint);
  writeFileSync(image, "");
  truncateSync(image, IMAGE_BYTES[kind]);
  const [mkfs, ...options] = MKFS[kind] as [string, ...string[]];
  execFileSync(mkfs, [...options, image], { stdio: "ignore" });
  const mount = (path: string) => execFileSync("mount", ["-o", "loop,noatime", path, mountPoint]);
  mount(image);
  return {
    mountPoint,
    copy: () => copyFileSync(image, copied),
    losePower() {
      unmount(mountPoint);
      mount(copied);
      execFileSync("umount", [mountPoint]);
      const [fsck, ...flags] = FSCK[kind] as [string, ...string[]];
      execFileSync(fsck, [...flags, copied], { stdio: "ignore" });
      mount(copied);
      [image, copied] = [copied, image];
    },
    [Symbol.dispose]() {
      spawnSync("umount", ["--lazy", mountPoint]);
      rmSync(image);
    },
  };
}

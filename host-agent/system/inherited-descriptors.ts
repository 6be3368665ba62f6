import { closeSync, readdirSync, readFileSync } from "node:fs";

const STDERR = 2;
/** Of open(2), as /proc/PID/fdinfo shows it in octal. */
const O_CLOEXEC = 0o2_000_000;

/**
 * Closes the descriptors above stderr that this process has inherited and would pass on to each program that it starts:
 * files, sockets and locks of whatever started it. Call it first: everything that Node opens itself is close-on-exec.
 */
export function closeInheritedDescriptors(): void {
  for (const name of readdirSync("/proc/self/fd")) {
    const fd = Number(name);
    if (fd > STDERR && isPassedOn(fd)) closeSync(fd);
  }
}

/** False for one that is closed by now, as that of the list itself. */
function isPassedOn(fd: number): boolean {
  try {
    const flags = /^flags:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & O_CLOEXEC) === 0;
  } catch {
    return false;
  }
}

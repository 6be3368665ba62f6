import { readdirSync, readFileSync, statSync } from "node:fs";

/** The pids of the processes that watch this file through inotify (proc_pid_fdinfo(5)). */
export function watchers(path: string): number[] {
  const watched = new RegExp(`^inotify .*\\bino:${statSync(path).ino.toString(16)} `, "m");
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => fdInfos(pid).some((info) => watched.test(info)))
    .map(Number);
}

function fdInfos(pid: string): string[] {
  try {
    return readdirSync(`/proc/${pid}/fdinfo`).flatMap((fd) => {
      try {
        return [readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1")];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}

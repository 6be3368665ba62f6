import { homedir, userInfo } from "node:os";

/** The user of this process, as the environment of a run describes it. */
export interface OwnUser {
  username: string;
  homedir: string;
  shell: string | null;
}

let known: OwnUser | undefined;

/**
 * The user of this process. Without an entry in passwd (a container's uid, a directory service that is down) the name is
 * the number, and the home `/`, as docker(1) and sh(1) have it. Asked once, because asking takes a file descriptor, which a launch may lack.
 */
export function ownUser(): OwnUser {
  return (known ??= lookUp());
}

/** The home folder by HOME, else by passwd; `/` without both. */
export function ownHome(): string {
  try {
    return homedir();
  } catch {
    return "/";
  }
}

function lookUp(): OwnUser {
  try {
    return userInfo();
  } catch {
    return { username: String(process.getuid?.()), homedir: "/", shell: "/bin/sh" };
  }
}

import { delimiter, isAbsolute, sep } from "node:path";

import { ownUser } from "../system/own-user.ts";
import { RUN_ID_VARIABLE } from "./process-tree.ts";
import type { RunUser } from "./run-as.ts";

/** Where programs are looked for when no setting names another place: the folders of the distribution. */
export const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Of the agent's own environment a run sees these, and nothing else. */
const INHERITED = /^(HOME|TZ|LANG|LC_[A-Z]+)$/;

/** A program that finds a terminal takes it for a person: these tell it that nobody scrolls a page or types a password. */
const NOBODY_ANSWERS = {
  PAGER: "cat",
  GIT_PAGER: "cat",
  GIT_TERMINAL_PROMPT: "0",
  SSH_ASKPASS: "/bin/false",
  SSH_ASKPASS_REQUIRE: "force",
};

/**
 * The environment of a run, built and not inherited. `recipeEnv` may set
 * anything but the run's id, which is how its processes are found again.
 */
export function buildEnvironment(
  agentEnv: Readonly<Record<string, string | undefined>>,
  runId: string,
  recipeEnv: Readonly<Record<string, string>> = {},
  runUser?: RunUser,
): Record<string, string> {
  const user = runUser ?? ownUser();
  const inherited = Object.entries(agentEnv).filter(
    (entry): entry is [string, string] =>
      INHERITED.test(entry[0]) && entry[1] !== undefined && !(runUser && entry[0] === "HOME"),
  );
  return {
    PATH: pathOf(agentEnv),
    HOME: user.homedir,
    LANG: "C.UTF-8",
    ...Object.fromEntries(inherited),
    USER: user.username,
    LOGNAME: user.username,
    SHELL: user.shell ?? "/bin/sh",
    TERM: "dumb",
    NO_COLOR: "1",
    PYTHONUNBUFFERED: "1",
    ...NOBODY_ANSWERS,
    ...recipeEnv,
    [RUN_ID_VARIABLE]: runId,
  };
}

/**
 * The PATH of every run, however the agent was started: HUB_PATH, or the agent's own without the folders that npm puts before it.
 * These are the `node_modules/.bin` of this project and of each folder above it, such as `/tmp`, where any user may create one. An
 * entry that is not an absolute path would be another folder for each run.
 */
function pathOf(agentEnv: Readonly<Record<string, string | undefined>>): string {
  if (agentEnv["HUB_PATH"]) return agentEnv["HUB_PATH"];
  const folders = (agentEnv["PATH"] ?? "")
    .split(delimiter)
    .filter((folder) => isAbsolute(folder) && !folder.split(sep).includes("node_modules"));
  return folders.length > 0 ? [...new Set(folders)].join(delimiter) : DEFAULT_PATH;
}

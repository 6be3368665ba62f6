import { ownUser } from "../system/own-user.ts";
import { RUN_ID_VARIABLE } from "./process-tree.ts";
import type { RunUser } from "./run-as.ts";

const FALLBACK_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Of the agent's own environment a run sees these, and nothing else. */
const INHERITED = /^(PATH|HOME|TZ|LANG|LC_[A-Z]+)$/;

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
    PATH: FALLBACK_PATH,
    HOME: user.homedir,
    LANG: "C.UTF-8",
    ...Object.fromEntries(inherited),
    USER: user.username,
    LOGNAME: user.username,
    SHELL: user.shell ?? "/bin/sh",
    TERM: "dumb",
    NO_COLOR: "1",
    PYTHONUNBUFFERED: "1",
    ...recipeEnv,
    [RUN_ID_VARIABLE]: runId,
  };
}

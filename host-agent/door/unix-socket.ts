import { once } from "node:events";
import { lstatSync, unlinkSync } from "node:fs";
import { connect } from "node:net";

import { ConfigError } from "../system/config-error.ts";

/**
 * Frees a path to listen on, which `setting` names: removes the socket that a dead
 * process left behind. Throws ConfigError when a live process answers on it, or when it is
 * not a socket.
 */
export async function freeSocketPath(path: string, setting = "HUB_AGENT_LISTEN"): Promise<void> {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (!stats) return;
  if (!stats.isSocket()) throw new ConfigError(`${setting}: ${path} exists and is not a socket`);
  if (await answers(path)) throw new ConfigError(`${setting}: another process listens on ${path}`);
  unlinkSync(path);
}

/** False only when nothing can be listening: a process that is busy or not ours counts as alive. */
async function answers(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ECONNREFUSED";
  } finally {
    socket.destroy();
  }
}

import { type Agent, startAgent } from "./agent.ts";
import type { DoorConfig, Env } from "./config.ts";
import { type OpenDoor, serveAtDoor } from "./door/serve.ts";
import { type Clock, hostClock } from "./system/clock.ts";
import type { Log } from "./system/log-line.ts";

/** An agent that listens behind its door; `stop` closes both and lets the runs continue. */
export type ServingAgent = OpenDoor & Pick<Agent, "recipesProblem" | "countAlive">;

/** Starts an agent behind its door; `now` and `clock` are those of its runs, not of the door. Throws ConfigError when a setting or a file forbids it. */
export async function serveAgent(
  { agent: config, name, listen, trustFile }: DoorConfig,
  env: Env,
  log: Log,
  now: () => number = Date.now,
  clock: Clock = hostClock(now),
): Promise<ServingAgent> {
  const settings = { name, listen, trustFile, stateDir: config.stateDir };
  const { agent, door } = await serveAtDoor(settings, () => startAgent(config, env, log, now, clock), log);
  return { ...door, recipesProblem: agent.recipesProblem, countAlive: agent.countAlive };
}

import { agent } from "./checks/agent.ts";
import { audit } from "./checks/audit.ts";
import { cgroups } from "./checks/cgroups.ts";
import { clock } from "./checks/clock.ts";
import { database } from "./checks/database.ts";
import { disk } from "./checks/disk.ts";
import { host } from "./checks/host.ts";
import { keys } from "./checks/keys.ts";
import { kv } from "./checks/kv.ts";
import { port } from "./checks/port.ts";
import { proc } from "./checks/proc.ts";
import { recipes } from "./checks/recipes.ts";
import { roots } from "./checks/roots.ts";
import { runAs } from "./checks/run-as.ts";
import { wrapper } from "./checks/wrapper.ts";
import { runtime } from "./checks/runtime.ts";
import { state } from "./checks/state.ts";
import { trust } from "./checks/trust.ts";
import type { Check } from "./finding.ts";

/** The checks of every host that serves the API. */
export const CHECKS: readonly Check[] = [runtime, proc, clock, host, keys, kv, port, agent];

/** The further checks of the host whose agent runs the jobs. */
export const AGENT_CHECKS: readonly Check[] = [
  state,
  database,
  audit,
  runAs,
  wrapper,
  cgroups,
  trust,
  roots,
  recipes,
  disk,
];

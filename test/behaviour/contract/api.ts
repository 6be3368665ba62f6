import type { Deploy } from "../../support/hub.ts";
import { authContract } from "./auth.ts";
import { badInputContract } from "./bad-input.ts";
import { confinementContract } from "./confinement.ts";
import { dryRunContract } from "./dry-run.ts";
import { httpContract } from "./http.ts";
import { idempotencyContract } from "./idempotency.ts";
import { killContract } from "./kill.ts";
import { launchContract } from "./launch.ts";
import { launchFailuresContract } from "./launch-failures.ts";
import { launchLimitsContract } from "./launch-limits.ts";
import { launchOptionsContract } from "./launch-options.ts";
import { logWaitContract } from "./log-wait.ts";
import { logsContract } from "./logs.ts";
import { paramsContract } from "./params.ts";
import { reachContract } from "./reach.ts";
import { statusContract } from "./status.ts";
import { terminalContract } from "./terminal.ts";

/** The whole public API as a black box: every deployment does the same. */
export function apiContract(deploy: Deploy): void {
  launchContract(deploy);
  launchFailuresContract(deploy);
  launchLimitsContract(deploy);
  launchOptionsContract(deploy);
  dryRunContract(deploy);
  paramsContract(deploy);
  idempotencyContract(deploy);
  logsContract(deploy);
  logWaitContract(deploy);
  statusContract(deploy);
  killContract(deploy);
  terminalContract(deploy);
  authContract(deploy);
  reachContract(deploy);
  badInputContract(deploy);
  confinementContract(deploy);
  httpContract(deploy);
}

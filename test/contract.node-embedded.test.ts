import { describe } from "vitest";

import { idempotencyContract } from "./contract/idempotency.ts";
import { killContract } from "./contract/kill.ts";
import { launchContract } from "./contract/launch.ts";
import { logsContract } from "./contract/logs.ts";
import { statusContract } from "./contract/status.ts";
import { terminalContract } from "./contract/terminal.ts";
import { nodeEmbedded } from "./hub.ts";

describe("Node with the agent embedded", () => {
  launchContract(nodeEmbedded);
  idempotencyContract(nodeEmbedded);
  logsContract(nodeEmbedded);
  statusContract(nodeEmbedded);
  killContract(nodeEmbedded);
  terminalContract(nodeEmbedded);
});

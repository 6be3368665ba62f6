import { describe } from "vitest";

import { idempotencyContract } from "./contract/idempotency.ts";
import { launchContract } from "./contract/launch.ts";
import { nodeEmbedded } from "./hub.ts";

describe("Node with the agent embedded", () => {
  launchContract(nodeEmbedded);
  idempotencyContract(nodeEmbedded);
});

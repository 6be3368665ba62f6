import { describe } from "vitest";

import { badInputContract } from "./contract/bad-input.ts";
import { launchContract } from "./contract/launch.ts";
import { nodeEmbedded } from "./hub.ts";

describe("Node with the agent embedded", () => {
  launchContract(nodeEmbedded);
  badInputContract(nodeEmbedded);
});

import { describe } from "vitest";

import { apiContract } from "./contract/api.ts";
import { nodeEmbedded } from "./hub.ts";

describe("Node with the agent embedded", () => {
  apiContract(nodeEmbedded);
});

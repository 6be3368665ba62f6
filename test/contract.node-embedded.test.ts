import { describe } from "vitest";

import { apiContract } from "./contract/api.ts";
import { localDevContract } from "./contract/auth.ts";
import { everyPageSizeContract, hangUpContract } from "./contract/logs.ts";
import { nodeEmbedded } from "./hub.ts";

describe("Node with the agent embedded", () => {
  apiContract(nodeEmbedded);
  localDevContract(nodeEmbedded);
  hangUpContract(nodeEmbedded);
  everyPageSizeContract(nodeEmbedded);
});

import { describe } from "vitest";

import { apiContract } from "./api.ts";
import { localDevContract } from "./auth.ts";
import { hangUpContract } from "./log-wait.ts";
import { everyPageSizeContract } from "./logs.ts";
import { nodeEmbedded } from "../../support/hub.ts";

describe("Node with the agent embedded", () => {
  apiContract(nodeEmbedded);
  localDevContract(nodeEmbedded);
  hangUpContract(nodeEmbedded);
  everyPageSizeContract(nodeEmbedded);
});

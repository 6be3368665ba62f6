import { describe } from "vitest";

import { apiContract } from "./api.ts";
import { devHostsContract, localDevContract } from "./auth.ts";
import { hangUpContract } from "./log-wait.ts";
import { everyPageSizeContract } from "./logs.ts";
import { nodeEmbedded } from "../../support/hub.ts";

describe("Node with the agent embedded", () => {
  apiContract(nodeEmbedded);
  devHostsContract(nodeEmbedded);
  localDevContract(nodeEmbedded);
  hangUpContract(nodeEmbedded);
  everyPageSizeContract(nodeEmbedded);
});

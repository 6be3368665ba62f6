import { describe } from "vitest";

import { authContract } from "./contract/auth.ts";
import { badInputContract } from "./contract/bad-input.ts";
import { confinementContract } from "./contract/confinement.ts";
import { httpContract } from "./contract/http.ts";
import { launchContract } from "./contract/launch.ts";
import { nodeEmbedded } from "./hub.ts";

describe("Node with the agent embedded", () => {
  launchContract(nodeEmbedded);
  authContract(nodeEmbedded);
  badInputContract(nodeEmbedded);
  confinementContract(nodeEmbedded);
  httpContract(nodeEmbedded);
});

import { describe } from "vitest";

import { apiContract } from "./contract/api.ts";
import { localDevContract } from "./contract/auth.ts";
import { hangUpContract } from "./contract/logs.ts";
import { nodeRemote } from "./deployments.ts";

describe("Node in front of a remote agent", () => {
  apiContract(nodeRemote);
  localDevContract(nodeRemote);
  hangUpContract(nodeRemote);
});

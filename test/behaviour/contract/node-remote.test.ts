import { describe } from "vitest";

import { apiContract } from "./api.ts";
import { localDevContract } from "./auth.ts";
import { hangUpContract } from "./log-wait.ts";
import { nodeRemote } from "../../support/deployments.ts";

describe("Node in front of a remote agent", () => {
  apiContract(nodeRemote);
  localDevContract(nodeRemote);
  hangUpContract(nodeRemote);
});

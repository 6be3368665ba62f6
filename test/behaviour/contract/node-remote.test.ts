import { describe } from "vitest";

import { apiContract } from "./api.ts";
import { devHostsContract, localDevContract } from "./auth.ts";
import { hangUpContract } from "./log-wait.ts";
import { nodeRemote } from "../../support/deployments.ts";

describe("Node in front of a remote agent", () => {
  apiContract(nodeRemote);
  devHostsContract(nodeRemote);
  localDevContract(nodeRemote);
  hangUpContract(nodeRemote);
});

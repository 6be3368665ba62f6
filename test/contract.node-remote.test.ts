import { describe } from "vitest";

import { apiContract } from "./contract/api.ts";
import { nodeRemote } from "./deployments.ts";

describe("Node in front of a remote agent", () => {
  apiContract(nodeRemote);
});

import { describe } from "vitest";

import { launchContract } from "./contract/launch.ts";
import { nodeRemote } from "./deployments.ts";

describe("Node in front of a remote agent", () => {
  launchContract(nodeRemote);
});

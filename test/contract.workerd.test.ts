import { describe } from "vitest";

import { apiContract } from "./contract/api.ts";
import { workerd } from "./deployments.ts";

describe("workerd in front of a remote agent", () => {
  apiContract(workerd);
});

import { afterAll, describe } from "vitest";

import { apiContract } from "./api.ts";
import { sharedWorkerd } from "../../support/shared-workerd.ts";

const shared = await sharedWorkerd();
afterAll(() => shared.stop());

describe("workerd in front of a remote agent", () => {
  apiContract(shared.deploy);
});

import { describe } from "vitest";

import { workerd } from "../../support/deployments.ts";
import { pagesTests } from "./pages.ts";

describe("workerd in front of a remote agent", () => {
  pagesTests(workerd);
});

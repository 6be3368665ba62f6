import { describe } from "vitest";

import { nodeEmbedded } from "../../support/hub.ts";
import { compressionTests, pagesTests } from "./pages.ts";

describe("Node with the agent embedded", () => {
  pagesTests(nodeEmbedded);
  compressionTests(nodeEmbedded);
});

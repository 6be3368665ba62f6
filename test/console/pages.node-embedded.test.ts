import { describe } from "vitest";

import { nodeEmbedded } from "../hub.ts";
import { compressionTests, pagesTests } from "./pages.ts";

describe("Node with the agent embedded", () => {
  pagesTests(nodeEmbedded);
  compressionTests(nodeEmbedded);
});

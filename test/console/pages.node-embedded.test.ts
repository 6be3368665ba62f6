import { describe } from "vitest";

import { nodeEmbedded } from "../hub.ts";
import { pagesTests } from "./pages.ts";

describe("Node with the agent embedded", () => {
  pagesTests(nodeEmbedded);
});

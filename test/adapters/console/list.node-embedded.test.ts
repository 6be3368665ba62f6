import { nodeEmbedded } from "../../support/hub.ts";
import { referenceTests } from "./reference.ts";
import { runsTests } from "./runs.ts";
import { inChromium } from "./suite.ts";

inChromium("the list and the reference on Node", nodeEmbedded, (open) => {
  runsTests(open);
  referenceTests(open);
});

import { nodeEmbedded } from "../hub.ts";
import { accessTests } from "./access.ts";
import { launchingTests } from "./launching.ts";
import { logTests } from "./log.ts";
import { inChromium } from "./suite.ts";

inChromium("runs and logs in the console on Node", nodeEmbedded, (open) => {
  accessTests(open);
  launchingTests(open);
  logTests(open);
});

import { writeFile } from "node:fs/promises";

import { nodeEmbedded } from "../../support/hub.ts";
import { accessTests, interruptionTests } from "./access.ts";
import { launchOptionsTests } from "./launch-options.ts";
import { launchingTests } from "./launching.ts";
import { logTests } from "./log.ts";
import { inChromium } from "./suite.ts";

inChromium("runs and logs in the console on Node", nodeEmbedded, (open) => {
  accessTests(open);
  interruptionTests(open, (hub, keys) => writeFile(hub.keysFile, JSON.stringify({ keys })));
  launchingTests(open);
  launchOptionsTests(open);
  logTests(open);
});

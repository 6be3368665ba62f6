import { writeFile } from "node:fs/promises";

import { workerd } from "../../support/deployments.ts";
import { interruptionTests } from "./access.ts";
import { launchingTests } from "./launching.ts";
import { inChromium } from "./suite.ts";

// Launch, follow, kill and what comes in between. The list, the log's limits and the access pages are the browser's own
// work and run on Node alone: what they ask the API for is in the contract of both.
inChromium("runs in the console on workerd", workerd, (open) => {
  // A Worker that runs may know a key for another minute; one that starts reads the keys at once.
  interruptionTests(open, (hub, keys) =>
    hub.restart(() => writeFile(hub.keysFile, JSON.stringify({ keys }))),
  );
  launchingTests(open);
});

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe } from "vitest";

import type { Deploy } from "../../support/hub.ts";
import { type ConsoleOptions, findChromium, openConsole, startChromium } from "./browser.ts";

/** Opens the console of a Hub of its own; the browser and the deployment are the suite's. */
export type Open = (options?: Omit<ConsoleOptions, "browser" | "deploy">) => ReturnType<typeof openConsole>;

/**
 * Tests in a real Chromium against a deployment. Without Chromium they are
 * skipped and say so, but with CI=true they fail and say what to install.
 */
export function inChromium(name: string, deploy: Deploy, tests: (open: Open) => void): void {
  const isMissing = findChromium() === undefined;
  const isSkipped = isMissing && process.env["CI"] !== "true";
  const note = isSkipped ? " (skipped: there is no Chromium in PATH or CHROMIUM_PATH)" : "";
  describe.skipIf(isSkipped)(`${name}${note}`, () => {
    let browser: Browser | undefined;
    beforeAll(async () => {
      browser = await startChromium();
    });
    afterAll(() => browser?.close());
    tests((options) => openConsole({ ...options, browser: browser!, deploy }));
  });
}

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe } from "vitest";

import type { Deploy } from "../../support/hub.ts";
import { type ConsoleOptions, findChromium, openConsole, startChromium } from "./browser.ts";
import { needs } from "../../support/needs.ts";

/** Opens the console of a new Hub in the browser and on the deployment of the suite. */
export type Open = (options?: Omit<ConsoleOptions, "browser" | "deploy">) => ReturnType<typeof openConsole>;

/** Tests in a real Chromium against a deployment. Without Chromium they are skipped. */
export function inChromium(title: string, deploy: Deploy, tests: (open: Open) => void): void {
  const isFound = findChromium() !== undefined;
  describe(`${title}, in Chromium`, needs(isFound, "Chromium is not in PATH or CHROMIUM_PATH"), () => {
    let browser: Browser | undefined;
    beforeAll(async () => {
      browser = await startChromium();
    });
    afterAll(() => browser?.close());
    tests((options) => openConsole({ ...options, browser: browser!, deploy }));
  });
}

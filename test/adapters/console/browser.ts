import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { expect } from "vitest";

import { frontDoor } from "../../support/front-door.ts";
import { type Hub, type HubOptions, startHub, until } from "../../support/hub.ts";

/** In this order: the shell is the same engine without the browser's own windows, and opens a page in a third of the CPU time. */
const NAMES = ["chromium-headless-shell", "chromium"];

/** Chromium's path: CHROMIUM_PATH, or one of its programs in PATH; undefined when none was found. */
export function findChromium(): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const candidates = [
    process.env["CHROMIUM_PATH"],
    ...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))),
  ];
  return candidates.find((path) => {
    try {
      accessSync(path ?? "", constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Starts Chromium without requests of its vendor. Throws an error that reports what to install when it is missing. */
export async function startChromium(): Promise<Browser> {
  const executablePath = findChromium();
  if (!executablePath) {
    throw new Error(
      "The console's tests need Chromium: install Debian's package chromium-headless-shell or chromium, or set CHROMIUM_PATH",
    );
  }
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

export interface ConsoleOptions extends HubOptions {
  browser: Browser;
  context?: BrowserContextOptions;
}

export type OpenConsole = Awaited<ReturnType<typeof openConsole>>;

/**
 * A Hub and a tab of a browser at its door. Disposing it fails if the page
 * sent a request to another host, broke its Content-Security-Policy, threw, or opened a dialog.
 */
export async function openConsole({ browser, context: contextOptions, ...hubOptions }: ConsoleOptions) {
  const hub = await startHub(hubOptions);
  const door = await frontDoor(() => new URL(hub.url));
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    acceptDownloads: true,
    locale: "en-GB",
    ...contextOptions,
  });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("request", (request) => {
    const url = new URL(request.url());
    const isOurs = url.origin === door.url || ["data:", "blob:"].includes(url.protocol);
    if (!isOurs) faults.push(`asked another host: ${request.url()}`);
    if (/sk_/.test(request.url())) faults.push(`a key in a URL: ${request.url()}`);
  });
  page.on("pageerror", (error) => faults.push(`threw: ${error.stack ?? error.message}`));
  page.on("dialog", (dialog) => {
    faults.push(`opened a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    if (/Content.Security.Policy/i.test(message.text())) faults.push(message.text());
  });

  return {
    hub,
    page,
    faults,
    url: door.url,
    /** Opens the console with a key, at this place. */
    async enter(key: string, place = "#/runs"): Promise<void> {
      await page.goto(`${door.url}/console${place}`);
      await page.getByLabel("API key").fill(key);
      await page.getByRole("button", { name: "Open" }).click();
      await page.getByRole("navigation", { name: "Console" }).waitFor();
    },

    async [Symbol.asyncDispose](): Promise<void> {
      await context.close();
      await door.close();
      await hub[Symbol.asyncDispose]();
      expect(faults).toEqual([]);
    },
  };
}

/** Inserts rows of ended runs directly into the agent's store. */
export async function insertRuns(hub: Hub, runs: StoredRow[]): Promise<void> {
  const { DatabaseSync } = await import("node:sqlite");
  const db = new DatabaseSync(join(hub.stateDir, "runs.db"), { timeout: 5_000 });
  const insert = db.prepare(`
    INSERT INTO runs (run_id, source, spec, cmd, log_path, key_name, status, status_reason, exit_code,
      started_at, ended_at, fingerprint, launcher)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '{}')`);
  db.exec("BEGIN IMMEDIATE");
  for (const { runId, source, name, args = "", status, reason, exitCode, startedAt, seconds, key } of runs) {
    const spec = source === "pipeline" ? { recipe_id: name, args } : { path: `${hub.root}/${name}`, args };
    const log = join(hub.dir, `${runId}.log`);
    insert.run(
      runId,
      source,
      JSON.stringify(spec),
      `${name} ${args}`.trim(),
      log,
      key ?? "acme-prod",
      status,
      reason ?? "The command exited with code 0.",
      exitCode ?? 0,
      startedAt,
      startedAt + seconds * 1000,
    );
  }
  db.exec("COMMIT");
  db.close();
}

export interface StoredRow {
  runId: string;
  source: "pipeline" | "script";
  name: string;
  args?: string;
  status: "completed" | "failed" | "killed" | "unknown";
  reason?: string;
  exitCode?: number;
  /** Epoch milliseconds. */
  startedAt: number;
  seconds: number;
  key?: string;
}

/** The serious and critical findings of axe-core about what the page shows now, in light and in dark colours. */
export async function seriousFindings(page: Page, axeSource: string): Promise<string[]> {
  // The page's own policy allows no foreign script; the debugger's evaluation is not the page's.
  if (!(await page.evaluate("'axe' in window"))) await page.evaluate(axeSource);
  await page.emulateMedia({ colorScheme: "light" });
  const inLight = await violations(page, { resultTypes: ["violations"] });
  await page.emulateMedia({ colorScheme: "dark" });
  const inDark = await violations(page, { resultTypes: ["violations"], runOnly: ["color-contrast"] });
  return [...inLight, ...inDark.map((finding) => `in dark colours: ${finding}`)];
}

async function violations(page: Page, options: object): Promise<string[]> {
  const found = (await page.evaluate(`axe.run(document, ${JSON.stringify(options)})`)) as {
    violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[];
  };
  return found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html}\n${failureSummary}`));
}

/** Waits until an expression is true in the page; the page's policy leaves no other way than to ask again. */
export async function holds(page: Page, expression: string): Promise<void> {
  await until(async () => ((await page.evaluate(expression)) === true ? true : undefined));
}

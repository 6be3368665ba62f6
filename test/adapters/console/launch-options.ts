import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { expect, test } from "vitest";

import { ALL } from "../../support/hub.ts";
import { seriousFindings } from "./browser.ts";
import type { Open } from "./suite.ts";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const HOSTILE = `<img src=x onerror="window.broken=1"> \u202egnp.exe`;

const SCORE = {
  recipe_id: "score",
  title: "Score",
  description: "Scores a suite",
  command: ["/bin/echo"],
  args_help: `more words\n${HOSTILE}`,
  max_running: 3,
  params: [
    {
      name: "suite",
      type: "string",
      required: true,
      pattern: "[a-z]+",
      description: `The suite. ${HOSTILE}`,
    },
    { name: "limit", type: "integer", default: 100, minimum: 1, maximum: 5000 },
    { name: "rate", type: "number" },
    { name: "constructor", type: "enum", enum: ["fast", HOSTILE], default: "fast" },
    { name: "verbose", type: "boolean", default: true },
    { name: "force", type: "boolean" },
    { name: "note", type: "string" },
  ],
};

/** The form for parameters, labels and dry runs. */
export function launchOptionsTests(open: Open): void {
  test("the form for parameters sends JSON's own types, and shows what the API refuses at its field", async () => {
    await using tab = await open({ recipes: [SCORE] });
    const { page } = tab;
    await tab.enter(ALL.key, "#/launch/score");
    const suite = page.getByLabel("suite", { exact: true });
    const limit = page.getByLabel("limit", { exact: true });
    expect(await limit.getAttribute("placeholder")).toBe("100");
    await page.getByRole("button", { name: "Launch", exact: true }).click();
    expect(await page.evaluate("document.activeElement.id")).toBe("param-suite");
    await suite.fill("UPPER");
    await limit.pressSequentially("5000");
    await page.getByLabel("rate").fill("0.5");
    await page.getByLabel("constructor").selectOption(HOSTILE);
    await page.getByLabel("verbose").uncheck();
    await page.getByLabel("force").check();
    await page.getByLabel("Arguments").fill("more words");
    await page.keyboard.press("Enter");

    await page.locator("#param-suite-fault", { hasText: "must match [a-z]+" }).waitFor();
    expect(await suite.getAttribute("aria-invalid")).toBe("true");
    expect(await suite.getAttribute("aria-describedby")).toContain("param-suite-fault");
    expect(await page.evaluate("document.activeElement.id")).toBe("param-suite");
    expect(await page.locator("[aria-invalid=true]").count()).toBe(1);
    expect(await seriousFindings(page, axe)).toEqual([]);

    await suite.fill("nightly");
    await page.keyboard.press("Enter");
    await page.getByLabel("Status of the run").getByText("completed").waitFor();
    const { json } = await tab.hub.get("/api/v1/pipelines/runs");
    expect(json.runs).toHaveLength(1);
    await page.getByRole("link", { name: "All runs" }).click();
    await page.locator(".run-row code", { hasText: "suite=nightly limit=5000" }).waitFor();
    expect(json.runs[0].spec).toEqual({
      recipe_id: "score",
      args: "more words",
      params: {
        suite: "nightly",
        limit: 5000,
        rate: 0.5,
        constructor: HOSTILE,
        verbose: false,
        force: true,
      },
    });
    expect(await page.evaluate("window.broken")).toBeUndefined();
  });

  test("a label of a recipe or a script is shown in the list and on the run's page, and is found by a search", async () => {
    await using tab = await open();
    const { page } = tab;
    const path = await tab.hub.script("report.sh", "echo report");
    await tab.hub.runScript("echo unlabelled");
    const places = ["launch/hello", `scripts/${encodeURIComponent(path)}`];
    await tab.enter(ALL.key, `#/${places[0]}`);
    for (const [i, place] of places.entries()) {
      await page.goto(`${tab.url}/console#/${place}`);
      await page.getByLabel("Label", { exact: true }).fill(`Quartz ${i} <b>\u202e`);
      await page.getByRole("button", { name: "Launch", exact: true }).click();
      await page.locator("dl div", { hasText: `LabelQuartz ${i} <b>⟨U+202E⟩` }).waitFor();
    }
    await page.goto(`${tab.url}/console#/runs`);
    const total = page.locator(".list-foot");
    await total.getByText("3 runs", { exact: true }).waitFor();
    await page.getByLabel("Search the runs").fill("quartz");
    await total.getByText("2 runs", { exact: true }).waitFor();
    const labels = await page.locator(".run-row .label").allTextContents();
    expect(labels.toSorted()).toEqual(["Quartz 0 <b>⟨U+202E⟩", "Quartz 1 <b>⟨U+202E⟩"]);
  });

  test("a dry run in the console shows what would start, and starts nothing", async () => {
    const full = {
      recipe_id: "full",
      title: "Full",
      description: "",
      command: ["/bin/sleep"],
      max_running: 1,
    };
    const context = { viewport: { width: 360, height: 740 } };
    await using tab = await open({ recipes: [SCORE, full], context });
    const { page } = tab;
    await tab.enter(ALL.key, "#/launch/score");
    await page.getByLabel("suite", { exact: true }).fill("nightly");
    await page.getByLabel("Arguments").fill(`'${HOSTILE}'`);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");

    const preview = page.getByRole("region", { name: "Dry run: it would start now" });
    await preview.waitFor();
    expect(await page.evaluate("document.activeElement.id")).toBe("preview-title");
    const shown = await preview.textContent();
    expect(shown).toContain("--suite nightly --limit 100 --constructor fast --verbose");
    expect(shown).toContain(`⟨U+202E⟩gnp.exe`);
    expect(shown).toMatch(/Log file.*score__YYYYMMDD_HHMMSS\.log/);
    expect(shown).toMatch(/Folder\/.*Environment.*PATH/);
    expect(shown).toContain("Runs of this recipe0 now, at most 3");
    expect(await page.locator("#console img").count()).toBe(0);
    expect(await seriousFindings(page, axe)).toEqual([]);
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(360);
    expect(await page.evaluate(PANEL_OVERFLOW)).toBe(0);
    await page.getByLabel("Arguments").fill("other");
    await preview.waitFor({ state: "detached" });
    expect((await tab.hub.get("/api/v1/pipelines/runs")).json.runs).toEqual([]);

    await tab.hub.post("/api/v1/pipelines/runs", { recipe_id: "full", args: "600" });
    await page.goto(`${tab.url}/console#/launch/full`);
    await page.getByLabel("Arguments").fill("600");
    await page.getByRole("button", { name: "Dry run" }).click();
    const refused = page.getByRole("region", { name: "Dry run: it would not start now" });
    await refused.getByText("1 now, at most 1").waitFor();
    const { json } = await tab.hub.post("/api/v1/pipelines/runs", {
      recipe_id: "full",
      args: "600",
      dry_run: true,
    });
    expect(await refused.locator("p").textContent()).toBe(json.reason);
  });
}

/** How far what the form shows reaches past the panel that it is in. */
const PANEL_OVERFLOW = `(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.querySelector(".chosen-panel"))`;

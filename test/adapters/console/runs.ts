import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { expect, test } from "vitest";

import { ALL, OTHER } from "../../support/hub.ts";
import { holds, insertRuns, seriousFindings, type StoredRow } from "./browser.ts";
import type { Open } from "./suite.ts";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const isTakingScreenshots = process.env["HUB_SCREENSHOTS"] === "1";

/** The list of runs, its timeline, and what is true for all pages. */
export function runsTests(open: Open): void {
  test("the console lists new runs of both surfaces without a reload, newest first, and finds them by status and by words", async () => {
    await using tab = await open();
    await insertRuns(tab.hub, someRuns());
    await tab.enter(ALL.key);
    await tab.page.getByRole("link", { name: "sync_corpus" }).first().waitFor();

    const { json } = await tab.hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" }, { key: OTHER.key });
    await tab.page.locator(`a[href="#/runs/${json.run_id}"]`).waitFor();
    const first = tab.page.locator(".run-row:not(.head)").first();
    expect(await first.getByRole("link").getAttribute("href")).toBe(`#/runs/${json.run_id}`);
    expect(await first.textContent()).toContain(OTHER.name);
    const surfaces = new Set(await tab.page.locator(".run-row:not(.head) .surface").allTextContents());
    expect(surfaces).toEqual(new Set(["pipeline", "script"]));

    await tab.page.getByLabel("Status", { exact: true }).selectOption("failed");
    await holds(
      tab.page,
      `[...document.querySelectorAll(".run-row .status")].every((s) => s.textContent === "failed")`,
    );
    expect(await tab.page.locator(".run-row .status").count()).toBeGreaterThan(3);
    await tab.page.keyboard.press("Escape");
    await tab.page.getByLabel("Status", { exact: true }).selectOption("");
    await tab.page.getByLabel("Search the runs").fill("other-corp hello");
    await tab.page.locator(".list-foot", { hasText: /^1 run$/ }).waitFor();
    expect(new URL(tab.page.url()).hash).toBe("#/runs?q=other-corp+hello");
    await tab.page.reload();
    await tab.page.locator(".list-foot", { hasText: /^1 run$/ }).waitFor();
  });

  test("the timeline shows when each run was, and links to it", async () => {
    await using tab = await open();
    const now = Date.now();
    const hour = 3_600_000;
    const base = { source: "pipeline", name: "nightly", seconds: 1_800 } as const;
    await insertRuns(tab.hub, [
      { ...base, runId: "run_00000000000a", status: "completed", startedAt: now - 30 * hour },
      { ...base, runId: "run_00000000000b", status: "failed", startedAt: now - 3 * hour },
      { ...base, runId: "run_00000000000c", status: "completed", startedAt: now - hour },
    ]);
    await tab.enter(ALL.key);
    const bars = tab.page.locator(".plot .bar");
    await bars.nth(1).waitFor();
    expect(await bars.count()).toBe(2);
    const width = (await tab.page.locator(".plot svg").boundingBox())!.width;
    const failed = tab.page.locator(".bar.failed");
    expect(Number(await failed.getAttribute("x"))).toBeCloseTo(width / 2, -1);
    expect(Number(await failed.getAttribute("width"))).toBeCloseTo(width / 12, -1);

    await tab.page.getByRole("button", { name: "7 days" }).click();
    await bars.nth(2).waitFor();
    await tab.page.getByRole("button", { name: "6 hours" }).click();
    await failed.click();
    await tab.page.getByRole("heading", { name: "nightly" }).waitFor();
    expect(new URL(tab.page.url()).hash).toBe("#/runs/run_00000000000b");
  });

  test("the timeline shows what the list is narrowed to, and the keyboard reaches its runs", async () => {
    await using tab = await open();
    const { page } = tab;
    const startedAt = Date.now() - 3_600_000;
    const base = { source: "script", seconds: 600, status: "completed" } as const;
    await insertRuns(tab.hub, [
      { ...base, runId: "run_00000000000a", name: "a/job.sh", startedAt },
      { ...base, runId: "run_00000000000b", name: "b/job.sh", startedAt: startedAt + 60_000 },
      {
        ...base,
        runId: "run_00000000000c",
        name: "other.sh",
        startedAt: startedAt + 120_000,
        status: "failed",
      },
    ]);
    await tab.enter(ALL.key);
    const bars = page.locator(".plot .bar");
    await bars.nth(2).waitFor();
    expect(await page.locator(".plot .group").count()).toBe(3);

    await page.getByLabel("Search the runs").fill("job");
    await bars.nth(2).waitFor({ state: "detached" });
    expect(await bars.count()).toBe(2);
    await page.getByLabel("Search the runs").fill("");
    await page.getByLabel("Status", { exact: true }).selectOption("failed");
    await page.getByText("1 run", { exact: true }).first().waitFor();
    await bars.nth(1).waitFor({ state: "detached" });
    await page.getByLabel("Status", { exact: true }).selectOption("");
    await bars.nth(2).waitFor();

    await page.getByRole("application", { name: "Timeline" }).focus();
    await page.keyboard.press("End");
    await page.keyboard.press("ArrowLeft");
    await page.locator(".timeline-note", { hasText: "job.sh: completed" }).waitFor();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "job.sh" }).waitFor();
    expect(new URL(page.url()).hash).toBe("#/runs/run_00000000000b");
  });

  test("a list of 10,000 runs can be scrolled to the oldest and searched, with few rows in the document", async () => {
    await using tab = await open();
    const now = Date.now();
    const rows: StoredRow[] = Array.from({ length: 10_000 }, (_, i) => ({
      runId: `run_${i.toString(16).padStart(12, "0")}`,
      source: i % 2 ? "script" : "pipeline",
      name: i % 2 ? "job.sh" : "nightly",
      args: i === 1_234 ? "--the-rare-one" : "",
      status: "completed",
      startedAt: now - (10_000 - i) * 60_000,
      seconds: 50,
    }));
    await insertRuns(tab.hub, rows);
    await tab.enter(ALL.key);
    await tab.page.locator(`a[href="#/runs/${rows.at(-1)!.runId}"]`).waitFor();

    const oldest = tab.page.locator(`a[href="#/runs/${rows[0]!.runId}"]`);
    const list = tab.page.locator(".run-rows");
    while ((await oldest.count()) === 0) {
      await list.evaluate((element) => element.scrollTo(0, element.scrollHeight));
      expect(await tab.page.locator(".run-row").count()).toBeLessThan(80);
      await tab.page.waitForTimeout(20);
    }
    await tab.page.getByText("10,000 runs", { exact: true }).waitFor();

    await tab.page.reload();
    await tab.page.getByLabel("Search the runs").fill("--the-rare-one");
    await tab.page.locator(`a[href="#/runs/${rows[1_234]!.runId}"]`).waitFor();
    expect(await tab.page.locator(".plot .bar").count()).toBeLessThan(1_000);
  });

  test("the keyboard alone finds a run, opens it and opens the dialog to kill it", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript("exec sleep 600");
    await insertRuns(tab.hub, someRuns());
    await tab.enter(ALL.key);
    await tab.page.getByRole("link", { name: "sync_corpus" }).first().waitFor();
    await tab.page.keyboard.press("/");
    await tab.page.keyboard.type(run.run_id);
    await tab.page.locator(".list-foot", { hasText: /^1 run$/ }).waitFor();
    await tab.page.locator(".run-rows").focus();
    await tab.page.keyboard.press("ArrowDown");
    await tab.page.keyboard.press("Enter");
    await tab.page.getByRole("button", { name: "Kill …" }).waitFor();
    expect(await tab.page.evaluate("document.activeElement.id"), "the focus is not lost").toBe("main");
    await tab.page.getByRole("button", { name: "Kill …" }).focus();
    await tab.page.keyboard.press("Enter");
    await tab.page.getByRole("dialog").waitFor();
    expect(await tab.page.evaluate("document.activeElement.textContent")).toBe("Keep it running");
    await tab.page.keyboard.press("Escape");
    await tab.page.getByRole("dialog").waitFor({ state: "detached" });
    expect((await tab.hub.run(run)).status).toBe("running");
  });

  test("axe finds no serious fault on any page of the console, in light or in dark colours", async () => {
    await using tab = await open();
    const { page } = tab;
    const path = await tab.hub.script("train.sh", TRAINING);
    const found: Record<string, string[]> = {};
    const look = async (name: string) => {
      found[name] = await seriousFindings(page, axe);
    };
    await page.goto(`${tab.url}/console`);
    await page.getByLabel("API key").waitFor();
    await look("gate");
    await tab.enter(ALL.key);
    await page.getByText("Nothing has been launched yet").waitFor();
    await look("empty");

    await insertRuns(tab.hub, someRuns());
    const { json: run } = await tab.hub.post("/api/v1/scripts/runs", { path, args: "--epochs 40" });
    await page.locator(`a[href="#/runs/${run.run_id}"]`).waitFor();
    await look("runs");
    await shoot("light", "runs");
    await page.goto(`${tab.url}/console#/runs/${run.run_id}`);
    await page.getByText("epoch 40").waitFor();
    await look("run");
    await shoot("dark", "run");
    await page.getByRole("button", { name: "Kill …" }).click();
    await page.getByRole("dialog").waitFor();
    await look("kill");
    await page.keyboard.press("Escape");
    await page.goto(`${tab.url}/console#/launch/hello`);
    await page.getByLabel("Arguments").waitFor();
    await look("launch");
    await page.goto(`${tab.url}/console#/scripts/${encodeURIComponent(path)}`);
    await page.getByLabel("Source of the script").waitFor();
    await look("scripts");
    await page.goto(`${tab.url}/console#/runs/run_000000000000`);
    await page.getByText("Unknown run").waitFor();
    await look("no such run");

    expect(found).toEqual(Object.fromEntries(Object.keys(found).map((name) => [name, []])));

    async function shoot(scheme: "light" | "dark", name: string): Promise<void> {
      if (!isTakingScreenshots) return;
      await page.emulateMedia({ colorScheme: scheme });
      await page.screenshot({ path: `docs/screenshots/${name}.png` });
    }
  });

  test("a row of the list can be clicked anywhere, and its text can be selected", async () => {
    await using tab = await open();
    const { page } = tab;
    await insertRuns(tab.hub, someRuns());
    await tab.enter(ALL.key);
    const key = page.locator(".run-row:not(.head) .key").first();
    await key.waitFor();
    const { x, y, height } = (await key.boundingBox())!;
    await page.mouse.move(x + 1, y + height / 2);
    await page.mouse.down();
    await page.mouse.move(x + 55, y + height / 2);
    await page.mouse.up();
    expect(await page.evaluate("String(getSelection()).length")).toBeGreaterThan(3);
    expect(new URL(page.url()).hash).toBe("#/runs");

    await page.locator(".run-row:not(.head) .surface").first().click();
    await page.getByText("All runs").or(page.getByLabel("Status of the run")).first().waitFor();
    expect(new URL(page.url()).hash).toMatch(/^#\/runs\/run_/);
  });

  test("a phone shows when each run started, and the log without scrolling past the details", async () => {
    await using tab = await open({ context: { viewport: { width: 360, height: 740 }, hasTouch: true } });
    const { page } = tab;
    const run = await tab.hub.runScript("echo here");
    await tab.hub.ended(run);
    await tab.enter(ALL.key);
    await page.locator(".run-row:not(.head) .when").first().waitFor();

    await page.goto(`${tab.url}/console#/runs/${run.run_id}`);
    const line = page.getByText("here", { exact: true });
    await line.waitFor();
    expect((await line.boundingBox())!.y).toBeLessThan(500);
    await page.getByText("Details").click();
    await page.getByText("Launched by").waitFor();
  });

  test("every page of the console fits the width of a phone", async () => {
    await using tab = await open({ context: { viewport: { width: 360, height: 740 }, hasTouch: true } });
    const path = await tab.hub.script("a-script-with-quite-a-long-name-that-goes-on.sh", "echo x");
    await insertRuns(tab.hub, someRuns());
    await tab.enter(ALL.key);
    const places = ["#/runs", "#/runs/run_000000000001", "#/launch", "#/launch/hello", "#/scripts"];
    for (const place of [...places, `#/scripts/${encodeURIComponent(path)}`]) {
      await tab.page.goto(`${tab.url}/console${place}`);
      await tab.page.locator(".loading").first().waitFor({ state: "hidden" });
      await tab.page.getByRole("heading").first().waitFor();
      const widest = (await tab.page.evaluate(WIDEST)) as number;
      expect([place, Math.max(360, widest)]).toEqual([place, 360]);
    }
  });
}

/** The right edge of what reaches furthest and is not in a box that scrolls. */
const WIDEST = `Math.max(...[...document.querySelectorAll("#console *")]
  .filter((e) => !e.closest(".log-lines, .source, .run-rows, .plot, .skip"))
  .map((e) => Math.floor(e.getBoundingClientRect().right)))`;

const TRAINING = String.raw`
printf '\033[1mranking model\033[0m  features=build_all_extra_features  seed=7\n'
for i in $(seq 1 40); do
  printf '\033[32mINFO\033[0m  epoch %2d  loss=\033[36m0.%04d\033[0m  \033[2mlr=1e-4\033[0m\n' $i $((9000 - i * 190))
  [ $((i % 12)) = 0 ] && printf '\033[33mWARN\033[0m  3 rows without a label were left out\n'
done
exec sleep 600`;

/** A working day of a Hub. */
function someRuns(): StoredRow[] {
  const now = Date.now();
  const names = ["build_all_extra_features", "sync_corpus", "export_report.sh", "cleanup.sh", "score_suites"];
  const rows = Array.from({ length: 90 }, (_, i): StoredRow => {
    const name = names[(i * 7) % names.length]!;
    const isFailed = i % 9 === 4;
    const isKilled = i % 17 === 6;
    const status = isFailed ? "failed" : isKilled ? "killed" : i === 40 ? "unknown" : "completed";
    return {
      runId: `run_${(i + 1).toString(16).padStart(12, "0")}`,
      source: name.endsWith(".sh") ? "script" : "pipeline",
      name,
      args: i % 3 ? "--limit 5000" : "",
      status,
      reason: isFailed ? "The command exited with code 1." : "The command exited with code 0.",
      exitCode: isFailed ? 1 : 0,
      startedAt: now - i * 230_000 - ((i * 7_919) % 400) * 1_000 - 60_000,
      seconds: 30 + ((i * 7_919) % 1_500),
      key: i % 4 ? "acme-prod" : "airflow",
    };
  });
  return rows
    .map((row) => ({ ...row, seconds: Math.min(row.seconds, (now - row.startedAt) / 1_000 - 5) }))
    .toReversed();
}

import { appendFile, readFile, rm, truncate, writeFile } from "node:fs/promises";

import { expect, test } from "vitest";

import { ALL } from "../../support/hub.ts";
import { holds, type OpenConsole } from "./browser.ts";
import type { Open } from "./suite.ts";

/** The most line elements that a log of any size may put into the document. */
const MAX_LINES = 2_000;
const MB = 1_048_576;

/** The log on a run's page. */
export function logTests(open: Open): void {
  test("the console shows hostile bytes of a log as text, and colours as colours", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript(String.raw`
printf '<script>window.broken=1</script><img src=x onerror=window.broken=1>\n'
printf '\033]8;;http://evil.example\033\\link\033]8;;\033\\ \033[2J\033[31mred\033[0m\n'
printf 'user\xe2\x80\xaegpj.exe nul\0end bad\xff\xfe\n'
printf '10%%\r20%%\r\n'
`);
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await tab.page.getByText("The log is complete.").waitFor();

    expect(await tab.page.locator(".line").allTextContents()).toEqual([
      "<script>window.broken=1</script><img src=x onerror=window.broken=1>",
      "␛]8;;http://evil.example␛\\link␛]8;;␛\\ ␛[2Jred",
      "user⟨U+202E⟩gpj.exe nul␀end bad\ufffd\ufffd",
      "10%␍",
      "20%",
    ]);
    expect(await tab.page.locator(".line .fg1").textContent()).toBe("red");
    expect(await tab.page.evaluate("window.broken")).toBeUndefined();
    expect(await tab.page.locator(".log-lines :is(img, script, a)").count()).toBe(0);
  });

  test("the console shows why a run was never started where its log would be", async () => {
    const broken = { recipe_id: "broken", title: "B", description: "", command: ["no-such-program"] };
    await using tab = await open({ recipes: [broken] });
    await tab.hub.post("/api/v1/pipelines/runs", { recipe_id: "broken" });
    const { run_id } = (await tab.hub.get("/api/v1/pipelines/runs")).json.runs[0];
    await tab.enter(ALL.key, `#/runs/${run_id}`);

    const log = tab.page.getByLabel("Log of broken");
    await log.getByText(/never started, so it has no log. .*no-such-program/).waitFor();
    expect(await tab.page.getByRole("alert").count()).toBe(0);
  });

  test("the console shows a log line of 10 MB in pieces", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript(`head -c ${10 * MB} /dev/zero | tr '\\0' x; echo; echo after`);
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);

    await tab.page.getByText("after", { exact: true }).waitFor();
    await expectBounded(tab);
    await tab.page.getByRole("button", { name: "Top" }).click();
    await holds(tab.page, `document.querySelector(".line").dataset.start === "0"`);
    await expectBounded(tab);
  });

  test("the console shows any place of a log of 200 MB, and keeps little of it", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript(`
echo first line
yes 'a line like many others, of some sixty characters or so .....' | head -c ${100 * MB}
echo; echo the needle in the middle
yes 'a line like many others, of some sixty characters or so .....' | head -c ${100 * MB}
echo; echo last line`);
    await tab.hub.ended(run);
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);

    await tab.page.getByText("last line", { exact: true }).waitFor();
    await expectBounded(tab);
    await tab.page.getByRole("button", { name: "Top" }).click();
    await tab.page.getByText("first line", { exact: true }).waitFor();
    await expectBounded(tab);

    await tab.page.getByLabel("Find in the log").fill("NEEDLE in");
    await tab.page.keyboard.press("Enter");
    await tab.page.locator(".line.current", { hasText: "the needle in the middle" }).waitFor();
    expect(await tab.page.locator(".line.current mark").textContent()).toBe("needle in");
    await expectBounded(tab);

    await tab.page.getByLabel("Log of").press("G");
    await tab.page.getByText("last line", { exact: true }).waitFor();
    const scroller = tab.page.getByLabel("Log of");
    const before = await firstByte(tab);
    await scroller.evaluate((element) => element.scrollTo(0, 0));
    await holds(tab.page, `Number(document.querySelector(".line").dataset.start) < ${before}`);
    await expectBounded(tab);
  });

  test("scrolling through a log shows each line once and in order", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript("seq -f 'line %06g' 1 16000");
    await tab.hub.ended(run);
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await tab.page.getByText("line 016000").waitFor();
    await tab.page.getByRole("button", { name: "Top" }).click();
    await tab.page.getByText("line 000001").waitFor();

    const seenLines = new Set<string>();
    for (let last = ""; last !== "line 016000";) {
      const lines = await tab.page.locator(".line").allTextContents();
      const first = Number(lines[0]!.slice(5));
      expect(lines).toEqual(lines.map((_, i) => `line ${String(first + i).padStart(6, "0")}`));
      for (const line of lines) seenLines.add(line);
      last = lines.at(-1)!;
      await tab.page.getByLabel("Log of").evaluate((element) => element.scrollTo(0, element.scrollHeight));
      if (last === "line 016000") break;
      await holds(
        tab.page,
        `document.querySelector(".line:last-child").textContent !== ${JSON.stringify(last)}`,
      );
    }
    expect(seenLines.size).toBe(16_000);
  });

  test("following a log keeps its end visible, and does not move a user who reads further up", async () => {
    await using tab = await open();
    const go = `${tab.hub.dir}/go`;
    const run = await tab.hub.runScript(
      `seq -f 'early %g' 1 500; while [ ! -e ${go} ]; do sleep 0.05; done; seq -f 'late %g' 1 500; exec sleep 600`,
    );
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await tab.page.getByText("early 500", { exact: true }).waitFor();
    await tab.page.getByLabel("Log of").press("g");
    await tab.page.getByRole("button", { name: "Follow", exact: false }).waitFor();
    await holds(tab.page, `document.querySelector(".log-lines").scrollTop === 0`);

    await writeFile(go, "");
    await tab.page.getByText(/of \d+\.\d kB/).waitFor();
    expect(await tab.page.getByLabel("Log of").evaluate((element) => element.scrollTop)).toBe(0);
    await tab.page.getByRole("button", { name: "↓ Follow" }).click();
    await tab.page.getByText("late 500", { exact: true }).waitFor();
    await holds(
      tab.page,
      `(() => { const b = document.querySelector(".log-lines"); return b.scrollHeight - b.scrollTop - b.clientHeight < 5 })()`,
    );
  });

  test("the log is copied and downloaded byte for byte, and long lines wrap or do not", async () => {
    await using tab = await open({ context: { permissions: ["clipboard-read", "clipboard-write"] } });
    const run = await tab.hub.runScript(
      String.raw`printf 'caf\xc3\xa9 \033[1mbold\033[0m \xff\n'; seq -s ' ' 1 400`,
    );
    await tab.hub.ended(run);
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await tab.page.getByText("The log is complete.").waitFor();

    const [download] = await Promise.all([
      tab.page.waitForEvent("download"),
      tab.page.getByRole("button", { name: "Download" }).click(),
    ]);
    expect(await readFile(await download.path())).toEqual(await readFile(run.log_path));
    expect(download.suggestedFilename()).toBe(run.log_path.split("/").at(-1));

    await tab.page.getByRole("button", { name: "Copy", exact: true }).click();
    await tab.page.getByRole("button", { name: "Copied" }).waitFor();
    expect(await tab.page.evaluate("navigator.clipboard.readText()")).toBe(await tab.hub.log(run));

    expect(await tab.page.getByLabel("Log of").evaluate(isWide)).toBe(false);
    await tab.page.getByRole("button", { name: "Wrap" }).click();
    expect(await tab.page.getByLabel("Log of").evaluate(isWide)).toBe(true);
  });

  test("after a 429 the console follows again after Retry-After, and after another refusal when Retry is pressed", async () => {
    await using tab = await open();
    const { page } = tab;
    const run = await tab.hub.runScript("echo here; exec sleep 600");
    let asked = 0;
    const refuse = (status: number, detail: string) =>
      page.route("**/logs?*", (route) => {
        asked += 1;
        return route.fulfill({
          status,
          headers: { "retry-after": "600" },
          contentType: "application/problem+json",
          json: { code: "refused", detail },
        });
      });
    await page.clock.install();
    await refuse(429, "Slow down");
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await page.getByText("Slow down").waitFor();

    // The list of runs polls now; the log's reader does not.
    await Promise.all([page.waitForResponse(/\/runs\?/), page.clock.fastForward(590_000)]);
    expect(asked).toBe(1);
    await page.unroute("**/logs?*");
    await page.clock.fastForward(10_000);
    await page.getByText("here", { exact: true }).waitFor();
    await page.getByText("Slow down").waitFor({ state: "detached" });

    await refuse(403, "Not you");
    await page.reload();
    await page.getByText("Not you").waitFor();
    await page.unroute("**/logs?*");
    await page.getByRole("button", { name: "Retry", exact: true }).click();
    await page.getByText("here", { exact: true }).waitFor();
    await page.getByText("Not you").waitFor({ state: "detached" });
  });

  test("the console shows a truncated log from its new start, and reports a removed log", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript("echo old text that is longer; exec sleep 600");
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await tab.page.getByText("old text").waitFor();

    await truncate(run.log_path, 0);
    await appendFile(run.log_path, "new\n");
    await tab.page.getByText("The log was truncated on the host").waitFor();
    await tab.page.getByText("new", { exact: true }).waitFor();

    await rm(run.log_path);
    await tab.page.reload();
    await tab.page.getByText("The log does not exist").waitFor();
  });
}

function isWide(element: { scrollWidth: number; clientWidth: number }): boolean {
  return element.scrollWidth > element.clientWidth;
}

async function expectBounded({ page }: OpenConsole): Promise<void> {
  expect(await page.locator(".line").count()).toBeLessThanOrEqual(MAX_LINES);
}

async function firstByte({ page }: OpenConsole): Promise<number> {
  return Number(await page.locator(".line").first().getAttribute("data-start"));
}

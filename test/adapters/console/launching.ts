import { writeFile } from "node:fs/promises";

import { expect, test } from "vitest";

import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { ALL, until } from "../../support/hub.ts";
import type { Open } from "./suite.ts";

const HOSTILE = `<img src=x onerror="window.broken=1"><b>bold</b> \u202egnp.exe`;

/** Launching, following and killing in the browser. */
export function launchingTests(open: Open): void {
  test("the console launches a recipe with its arguments as typed, and follows it to its end", async () => {
    await using tab = await open();
    const go = `${tab.hub.dir}/go`;
    const command = `echo "args: $*"; while [ ! -e ${go} ]; do sleep 0.05; done; echo done; exit 3`;
    await writeFile(
      tab.hub.recipesFile,
      JSON.stringify({
        recipes: [
          {
            recipe_id: "gated",
            title: "Gated",
            description: "Waits",
            command: ["/bin/sh", "-c", command, "gated"],
          },
        ],
      }),
    );
    await tab.enter(ALL.key, "#/launch");
    await tab.page.getByRole("link", { name: /Gated/ }).click();
    // An example in the field itself would look like a default.
    expect(await tab.page.getByLabel("Arguments").getAttribute("placeholder")).toBeNull();
    await tab.page.getByLabel("Arguments").fill("--limit 5 'two words' $HOME ;id");
    await tab.page.getByRole("button", { name: "Launch" }).click();

    await tab.page.getByText("args: --limit 5 two words $HOME ;id").waitFor();
    await tab.page.getByLabel("Status of the run").getByText("running").waitFor();
    await tab.page.reload();
    await tab.page.getByText("args: --limit 5 two words $HOME ;id").waitFor();

    await writeFile(go, "");
    await tab.page.getByLabel("Status of the run").getByText("failed").waitFor();
    await tab.page.getByText("The log is complete.").waitFor();
    expect(await tab.page.locator(".line").allTextContents()).toEqual([
      "args: --limit 5 two words $HOME ;id",
      "done",
    ]);
    expect(await tab.page.locator("dl div", { hasText: "Exit code" }).textContent()).toBe("Exit code3");
    const { json } = await tab.hub.get("/api/v1/pipelines/runs");
    await tab.page.getByText(json.runs[0].status_reason).waitFor();
  });

  test("the console shows a script's source and launches it", async () => {
    await using tab = await open();
    await tab.hub.script("report.sh", 'echo "report $1"');
    await tab.enter(ALL.key, "#/scripts");
    await tab.page.getByRole("link", { name: "report.sh" }).click();
    await tab.page.getByLabel("Source of the script").getByText('echo "report $1"').waitFor();
    await tab.page.getByLabel("Arguments").fill("weekly");
    await tab.page.getByRole("button", { name: "Launch" }).click();

    await tab.page.getByText("report weekly", { exact: true }).waitFor();
  });

  test("the console repeats a launch whose answer is lost without a second run", async () => {
    await using tab = await open();
    await tab.enter(ALL.key, "#/launch/hello");
    await tab.page.route(
      "**/api/v1/pipelines/runs",
      async (route) => {
        await route.fetch();
        await route.abort();
      },
      { times: 1 },
    );
    await tab.page.getByRole("button", { name: "Launch" }).click();
    await tab.page.getByRole("button", { name: "Retry (starts at most one run)" }).click();

    await tab.page.getByLabel("Status of the run").getByText("completed").waitFor();
    const { json } = await tab.hub.get("/api/v1/pipelines/runs");
    expect(json.runs).toHaveLength(1);
  });

  test("the console shows a broken recipes file as broken, and an empty one as empty", async () => {
    await using tab = await open();
    await writeFile(tab.hub.recipesFile, "{ broken");
    await tab.hub.restart();
    await tab.enter(ALL.key, "#/launch");
    await tab.page.getByText("The list of recipes is broken").waitFor();
    await tab.page.getByText(/The Hub reports: .*recipes file is missing or malformed/).waitFor();
    expect(await tab.page.getByText("No recipes").count()).toBe(0);

    await writeFile(tab.hub.recipesFile, '{"recipes": []}');
    // In front of a remote agent, an answer about its health is given again for a second.
    await until(async () => (await tab.hub.get("/healthz")).json.status === "ok" || undefined);
    await tab.page.reload();
    await tab.page.getByText("No recipes").waitFor();
    expect(await tab.page.getByText("is broken").count()).toBe(0);
  });

  test("the launch form shows what the API refuses, and keeps what was typed", async () => {
    await using tab = await open();
    await tab.enter(ALL.key, "#/launch/hello");
    await tab.page.getByLabel("Arguments").fill("'unbalanced");
    await tab.page.getByRole("button", { name: "Launch" }).click();

    await tab.page.getByText("The Hub refused the request").waitFor();
    // Nothing was started, so the button does not offer to repeat a launch.
    await tab.page.getByRole("button", { name: "Launch", exact: true }).waitFor();
    expect(await tab.page.getByLabel("Arguments").inputValue()).toBe("'unbalanced");
  });

  test("a refusal of a launch scrolls to its message and focuses it, however small the window", async () => {
    await using tab = await open({ context: { viewport: { width: 700, height: 330 } } });
    await tab.enter(ALL.key, "#/launch/hello");
    await tab.page.route("**/api/v1/pipelines/runs", (route) =>
      route.fulfill({ status: 429, json: { code: "too_many_runs", detail: "The host is full" } }),
    );
    await tab.page.getByLabel("Arguments").press("Enter");

    const notice = tab.page.getByRole("alert");
    await notice.getByText("The host is full").waitFor();
    await expect.poll(() => tab.page.evaluate("document.activeElement.className")).toBe("notice problem");
    const { y, height } = (await notice.boundingBox())!;
    expect(y).toBeGreaterThanOrEqual(0);
    expect(y + height).toBeLessThanOrEqual(331);
  });

  test("the console asks before a kill, naming the run, and then ends all its processes", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript("echo up; sleep 600 & exec sleep 601");
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await tab.page.getByRole("button", { name: "Kill …" }).click();
    const dialog = tab.page.getByRole("dialog");
    await dialog.getByText(run.run_id).first().waitFor();
    await dialog.getByRole("button", { name: "Keep it running" }).click();
    await dialog.waitFor({ state: "detached" });
    expect((await tab.hub.run(run)).status).toBe("running");

    await tab.page.getByRole("button", { name: "Kill …" }).click();
    await dialog.getByRole("button", { name: `Kill ${run.run_id}` }).click();
    await tab.page.getByLabel("Status of the run").getByText("killed").waitFor();
    await until(() => processesOf(run.run_id).length === 0 || undefined);
    await tab.page.getByRole("button", { name: "Kill …" }).waitFor({ state: "detached" });
  });

  test("the console shows hostile titles, names and arguments as text on every page", async () => {
    const recipe = {
      recipe_id: "evil",
      title: HOSTILE,
      description: `<script>window.broken=1</script>`,
      command: ["/bin/echo"],
    };
    await using tab = await open({ recipes: [recipe] });
    await tab.hub.script(
      "<img src=x onerror=broken=1>.sh",
      "# <script>window.broken=1</script> \u202e\necho hi",
    );
    const { json: run } = await tab.hub.post("/api/v1/pipelines/runs", {
      recipe_id: "evil",
      args: `'${HOSTILE}'`,
    });

    await tab.enter(ALL.key, "#/launch/evil");
    await tab.page.getByRole("heading", { name: "⟨U+202E⟩gnp.exe" }).waitFor();
    await tab.page.goto(`${tab.url}/console#/runs`);
    await tab.page.getByText("<img src=x onerror=").first().waitFor();
    await tab.page.goto(`${tab.url}/console#/runs/${run.run_id}`);
    await tab.page.getByText("The log is complete.").waitFor();
    await tab.page.goto(`${tab.url}/console#/scripts`);
    await tab.page.getByRole("link", { name: "<img src=x" }).click();
    await tab.page.getByText("<script>window.broken=1</script> ⟨U+202E⟩").waitFor();

    expect(await tab.page.evaluate("window.broken")).toBeUndefined();
    expect(await tab.page.locator("#console img, #console script").count()).toBe(0);
  });
}

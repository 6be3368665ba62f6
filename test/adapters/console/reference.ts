import { expect, test } from "vitest";

import { ALL } from "../../support/hub.ts";
import type { Open } from "./suite.ts";

/** The API reference at /docs. */
export function referenceTests(open: Open): void {
  test("the API reference sends a request with a key, to this origin and under the page's policy", async () => {
    await using tab = await open();
    const { page } = tab;
    await page.goto(`${tab.url}/docs`);
    await page.getByRole("button", { name: "Authorize" }).click();
    await page.getByLabel("auth-bearer-value").fill(ALL.key);
    await page.getByRole("button", { name: "Apply credentials" }).click();
    await page.getByRole("button", { name: "Close" }).click();

    const operation = page.locator("#operations-Pipelines-launchPipeline");
    await operation.locator(".opblock-summary-control").click();
    expect(JSON.parse(await operation.locator("textarea").inputValue())).toEqual({
      recipe_id: "build_all_extra_features",
      args: "--limit 5000",
    });
    expect(await operation.getByPlaceholder("Idempotency-Key").inputValue()).toBe("");
    expect(await operation.getByPlaceholder("Prefer").inputValue()).toBe("");
    await operation.locator("textarea").fill('{"recipe_id": "hello", "args": "docs"}');
    await operation.getByRole("button", { name: "Execute" }).click();
    await operation.locator(".live-responses-table").getByText("201", { exact: true }).first().waitFor();

    const command = (await operation.locator(".curl-command").textContent())!;
    expect(command).toContain("Bearer YOUR_API_KEY");
    expect(command).not.toContain(ALL.key);
    const { json } = await tab.hub.get("/api/v1/pipelines/runs");
    expect(json.runs).toMatchObject([{ spec: { recipe_id: "hello", args: "docs" }, key_name: ALL.name }]);
    await tab.hub.ended(json.runs[0]);
  });

  test("the API reference uses the key of the console, and shows every operation", async () => {
    await using tab = await open();
    await tab.enter(ALL.key);
    await tab.page.getByRole("link", { name: "API" }).click();
    await tab.page.locator("#operations-Service-health").waitFor();
    const { paths, webhooks } = (await tab.hub.get("/openapi.json")).json;
    const operations = [paths, webhooks].flatMap((of) => Object.values<object>(of).flatMap(Object.keys));
    expect(operations).toHaveLength(18);
    expect(await tab.page.locator(".opblock").count()).toBe(operations.length);

    const operation = tab.page.locator("#operations-Pipelines-listRecipes");
    await operation.locator(".opblock-summary-control").click();
    await operation.getByRole("button", { name: "Execute" }).click();
    await operation
      .locator(".live-responses-table")
      .getByText("Says hello to its arguments")
      .first()
      .waitFor();
  });

  test("the forms of the API reference name the recipe, script and runs of this Hub", async () => {
    await using tab = await open();
    const { page } = tab;
    const run = await tab.hub.runScript("echo seen");
    await tab.hub.ended(run);
    await tab.enter(ALL.key);
    await page.getByRole("link", { name: "API" }).click();
    const recipe = { recipe_id: "hello", args: "" };
    const script = { path: (await tab.hub.get("/api/v1/scripts")).json.scripts[0].path, args: "" };
    for (const [id, body] of [
      ["Pipelines-launchPipeline", recipe],
      ["Pipelines-previewPipeline", recipe],
      ["Scripts-launchScript", script],
      ["Scripts-previewScript", script],
    ] as const) {
      const form = page.locator(`#operations-${id}`);
      await form.locator(".opblock-summary-control").click();
      expect(JSON.parse(await form.locator("textarea").inputValue()), id).toEqual(body);
    }

    const get = page.locator("#operations-Scripts-getScriptRun");
    await get.locator(".opblock-summary-control").click();
    expect(await get.getByPlaceholder("run_id").inputValue()).toBe(run.run_id);
    await get.getByRole("button", { name: "Execute" }).click();
    await get.locator(".live-responses-table").getByText("The command exited with code 0.").first().waitFor();
  });
}

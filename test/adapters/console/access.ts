import { writeFile } from "node:fs/promises";

import { expect, test } from "vitest";

import { ALL, type Hub, OTHER, type TestKey } from "../../support/hub.ts";
import type { Open } from "./suite.ts";

const SCRIPTS_ONLY: TestKey = {
  name: "scripts-only",
  key: "sk_test_scripts_only_0123",
  scopes: ["scripts:read"],
};
const WRITE_ONLY: TestKey = {
  name: "write-only",
  key: "sk_test_write_only_012345",
  scopes: ["pipelines:write"],
};

/** Who is let in, and what the others are told. */
export function accessTests(open: Open): void {
  test("the key lives in this tab's sessionStorage alone and goes when it is forgotten", async () => {
    await using tab = await open();
    await tab.enter(ALL.key);

    expect(await tab.page.evaluate("Object.values(sessionStorage)")).toEqual([ALL.key]);
    expect(
      await tab.page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href"),
    ).not.toContain(ALL.key);

    await tab.page.getByRole("button", { name: "Forget key" }).click();
    await tab.page.getByLabel("API key").waitFor();
    expect(await tab.page.evaluate("sessionStorage.length")).toBe(0);
  });

  test("a wrong key is refused in the API's own words, and a right one is let in then", async () => {
    await using tab = await open();
    await tab.page.goto(`${tab.url}/console`);
    await tab.page.getByLabel("API key").fill("sk_wrong");
    await tab.page.getByRole("button", { name: "Open" }).click();

    await tab.page.getByText("The API key is unknown").waitFor();
    await tab.page.getByLabel("API key").fill(ALL.key);
    await tab.page.getByRole("button", { name: "Open" }).click();
    await tab.page.getByText("Nothing has been launched yet").waitFor();
  });

  test("a key without a scope is told which one, and sees what it may", async () => {
    await using tab = await open({ keys: [ALL, SCRIPTS_ONLY, WRITE_ONLY] });
    const run = await tab.hub.runScript("echo seen");
    await tab.hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" });

    await tab.enter(SCRIPTS_ONLY.key);
    await tab.page.getByText("does not have the scope pipelines:read").waitFor();
    await tab.page.locator(`a[href="#/runs/${run.run_id}"]`).waitFor();
    expect(await tab.page.getByRole("row").count()).toBe(2);

    await tab.page.getByRole("button", { name: "Forget key" }).click();
    await tab.page.getByLabel("API key").fill(WRITE_ONLY.key);
    await tab.page.getByRole("button", { name: "Open" }).click();
    await tab.page.getByText("This key may not read runs").waitFor();
  });

  test("a Hub without keys is entered without one and says dev mode", async () => {
    await using tab = await open({ keys: [] });
    await tab.page.goto(`${tab.url}/console`);

    await tab.page.getByText("dev mode").waitFor();
    await tab.page.getByText("Nothing has been launched yet").waitFor();
  });

  test("a host that cannot be reached is named, and what is known stays to be read", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript("echo kept");
    await tab.enter(ALL.key);
    const link = tab.page.locator(`a[href="#/runs/${run.run_id}"]`);
    await link.waitFor();

    await tab.page.route("**/api/v1/**", (route) =>
      route.fulfill({
        status: 503,
        contentType: "application/problem+json",
        json: { code: "agent_unavailable", detail: "The host-agent does not answer." },
      }),
    );
    await tab.page.getByText("The host cannot be reached.").waitFor();
    await link.waitFor();

    await tab.page.unroute("**/api/v1/**");
    await tab.page.getByRole("button", { name: "Try now" }).click();
    await tab.page.getByText("The host cannot be reached.").waitFor({ state: "detached" });
  });

  test("a Hub that is away at the start is named, with its address", async () => {
    await using tab = await open();
    await tab.page.route("**/healthz", (route) => route.abort());
    await tab.page.goto(`${tab.url}/console`);
    await tab.page.getByText(`Nothing answers at ${tab.url}`).waitFor();

    await tab.page.unroute("**/healthz");
    await tab.page.getByRole("button", { name: "Try again" }).click();
    await tab.page.getByLabel("API key").waitFor();
  });

  test("a link to a run that is not there says so", async () => {
    await using tab = await open();
    await tab.enter(ALL.key, "#/runs/run_000000000000");
    await tab.page.getByText("There is no such run").waitFor();

    await tab.page.goto(`${tab.url}/console#/runs/..%2f..`);
    await tab.page.getByText("That is no run").waitFor();
  });
}

/** Puts other keys in force in a Hub that serves. */
export type ReplaceKeys = (hub: Hub, keys: TestKey[]) => Promise<void>;

/** What goes wrong in the middle of following a run. */
export function interruptionTests(open: Open, replaceKeys: ReplaceKeys): void {
  test("a key that is revoked in the middle is dropped, and another one leads back to the same run", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript("echo before; exec sleep 600");
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await tab.page.getByText("before").waitFor();

    await replaceKeys(tab.hub, [OTHER]);
    await tab.page.getByText("The API key is unknown").waitFor();
    expect(await tab.page.evaluate("sessionStorage.length")).toBe(0);

    await tab.page.getByLabel("API key").fill(OTHER.key);
    await tab.page.getByRole("button", { name: "Open" }).click();
    await tab.page.getByText("before").waitFor();
    expect(new URL(tab.page.url()).hash).toBe(`#/runs/${run.run_id}`);
  });

  test("when the server is restarted in the middle the log goes on where it was", async () => {
    await using tab = await open();
    const go = `${tab.hub.dir}/go`;
    const run = await tab.hub.runScript(`echo one; while [ ! -e ${go} ]; do sleep 0.05; done; echo two`);
    await tab.enter(ALL.key, `#/runs/${run.run_id}`);
    await tab.page.getByText("one", { exact: true }).waitFor();

    await tab.hub.restart(async () => {
      await tab.page.getByText("The Hub does not answer.").waitFor();
      await writeFile(go, "");
    });

    await tab.page.getByText("The log is complete.").waitFor();
    expect(await tab.page.locator(".line").allTextContents()).toEqual(["one", "two"]);
    await tab.page.getByText("The Hub does not answer.").waitFor({ state: "detached" });
  });
}

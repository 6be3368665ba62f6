import { writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";

import { expect, onTestFinished, test } from "vitest";

import { ALL, type Hub, OTHER, type TestKey } from "../../support/hub.ts";
import type { Open } from "./suite.ts";

const SCRIPTS_ONLY: TestKey = {
  name: "scripts-only",
  key: "sk_test_scripts_only_0123",
  scopes: ["scripts:read"],
};
const READ_ONLY: TestKey = {
  name: "read-only",
  key: "sk_test_read_only_0123456",
  scopes: ["pipelines:read", "scripts:read"],
};
const WRITE_ONLY: TestKey = {
  name: "write-only",
  key: "sk_test_write_only_012345",
  scopes: ["pipelines:write"],
};

/** Which keys open the console, and what other keys show. */
export function accessTests(open: Open): void {
  test("the console stores the key in this tab's sessionStorage only, and removes it with Forget key", async () => {
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

  test("the console shows the API's sentence about a wrong key, and then accepts a right one", async () => {
    await using tab = await open();
    await tab.page.goto(`${tab.url}/console`);
    await tab.page.getByLabel("API key").fill("sk_wrong");
    await tab.page.getByRole("button", { name: "Open" }).click();

    await tab.page.getByText("The API key is unknown").waitFor();
    await tab.page.getByLabel("API key").fill(ALL.key);
    await tab.page.getByRole("button", { name: "Open" }).click();
    await tab.page.getByText("Nothing has been launched yet").waitFor();
  });

  test("the console names the scope that a key does not have, and shows what the key can read", async () => {
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
    await tab.page.getByText("This key cannot read runs").waitFor();
    expect(await tab.page.locator(".notice, .aside").count()).toBe(1);
  });

  test("a read-only key is offered no launch and no kill", async () => {
    await using tab = await open({ keys: [ALL, READ_ONLY] });
    const { page } = tab;
    const run = await tab.hub.runScript("echo up; exec sleep 600");
    await tab.enter(READ_ONLY.key, `#/runs/${run.run_id}`);
    await page.getByText("up", { exact: true }).waitFor();
    expect(await page.getByRole("button", { name: "Kill" }).count()).toBe(0);

    await page.goto(`${tab.url}/console#/launch/hello`);
    await page.getByText("This key cannot launch: it does not have the scope pipelines:write.").waitFor();
    await page.getByLabel("Arguments").press("Enter");
    expect(await page.getByRole("button", { name: /Launch|Dry run/ }).count()).toBe(0);
    await page.goto(`${tab.url}/console#/runs`);
    await page.locator(`a[href="#/runs/${run.run_id}"]`).waitFor();
    expect(await page.getByRole("link", { name: "Launch …" }).count()).toBe(0);
    expect((await tab.hub.get("/api/v1/pipelines/runs")).json.runs).toEqual([]);
  });

  test("the console of a Hub without keys opens without a key and shows dev mode", async () => {
    await using tab = await open({ keys: [] });
    await tab.page.goto(`${tab.url}/console`);

    await tab.page.getByText("dev mode").waitFor();
    await tab.page.getByText("Nothing has been launched yet").waitFor();
  });

  test("the console reports a host that cannot be reached, and keeps showing the runs that it has read", async () => {
    await using tab = await open();
    const run = await tab.hub.runScript("echo kept");
    await tab.enter(ALL.key);
    const link = tab.page.locator(`a[href="#/runs/${run.run_id}"]`);
    await link.waitFor();

    await tab.page.route("**/api/v1/**", (route) =>
      route.fulfill({
        status: 503,
        contentType: "application/problem+json",
        json: {
          code: "agent_unavailable",
          detail: "The host cannot be reached. Its runs continue. Try again",
        },
      }),
    );
    await tab.page
      .getByText("The host cannot be reached. Its runs continue. Retrying …", { exact: true })
      .waitFor();
    await link.waitFor();

    await tab.page.unroute("**/api/v1/**");
    await tab.page.getByRole("button", { name: "Retry now" }).click();
    await tab.page.getByText("The host cannot be reached.").waitFor({ state: "detached" });
  });

  test.for(["#/launch/hello", "#/scripts", "#/runs/RUN"])(
    "the page %s, opened during an outage, reports it once and appears by itself when the Hub answers again",
    async (place) => {
      await using tab = await open();
      const { page } = tab;
      const run = await tab.hub.runScript("echo seen");
      await tab.hub.ended(run);
      await tab.enter(ALL.key);
      await page.locator(`a[href="#/runs/${run.run_id}"]`).waitFor();
      await page.route("**/api/v1/**", (route) => route.abort());
      await page.getByText("The Hub does not answer.").waitFor();
      await page.goto(`${tab.url}/console${place.replace("RUN", run.run_id)}`);
      await page.waitForTimeout(1_500);
      expect(await page.getByText(/does not answer/).count()).toBe(1);
      expect(await page.getByRole("alert").count()).toBe(0);

      await page.unroute("**/api/v1/**");
      await page.locator(".cards a, .files a, .line").first().waitFor();
      await page.getByText("The Hub does not answer.").waitFor({ state: "detached" });
    },
  );

  test("the console reports a Hub that does not answer at the start, with its address", async () => {
    await using tab = await open();
    await tab.page.route("**/healthz", (route) => route.abort());
    await tab.page.goto(`${tab.url}/console`);
    await tab.page.getByText(`Nothing answers at ${tab.url}`).waitFor();

    await tab.page.unroute("**/healthz");
    await tab.page.getByRole("button", { name: "Retry", exact: true }).click();
    await tab.page.getByLabel("API key").waitFor();
  });

  test("the console and the API reference work behind a proxy that puts a path in front of them", async () => {
    await using tab = await open();
    const { page } = tab;
    const proxied = await underPath(tab.hub, "/hub/");
    onTestFinished(proxied.close);
    page.removeAllListeners("request");
    await page.goto(`${proxied.url}/hub/console#/launch/hello`);
    await page.getByLabel("API key").fill(ALL.key);
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByRole("button", { name: "Launch", exact: true }).click();
    await page.getByLabel("Status of the run").getByText("completed").waitFor();

    await page.getByRole("link", { name: "API" }).click();
    const operation = page.locator("#operations-Pipelines-listRecipes");
    await operation.locator(".opblock-summary-control").click();
    await operation.getByRole("button", { name: "Execute" }).click();
    await operation
      .locator(".live-responses-table")
      .getByText("Says hello to its arguments")
      .first()
      .waitFor();
    await page.goto(`${proxied.url}/hub/`);
    await page.getByRole("navigation", { name: "Console" }).waitFor();
    expect(proxied.outside()).toEqual([]);
  });

  test("a link to an unknown run, or to an invalid run id, is reported", async () => {
    await using tab = await open();
    await tab.enter(ALL.key, "#/runs/run_000000000000");
    await tab.page.getByText("Unknown run").waitFor();

    await tab.page.goto(`${tab.url}/console#/runs/..%2f..`);
    await tab.page.getByText("This is not a run id").waitFor();
  });
}

/** Replaces the keys of a running Hub. */
export type ReplaceKeys = (hub: Hub, keys: TestKey[]) => Promise<void>;

/** Failures while the console follows a run. */
export function interruptionTests(open: Open, replaceKeys: ReplaceKeys): void {
  test("a key that is revoked while a run is followed is removed, and another key leads back to the same run", async () => {
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

  test("the log continues where it was after the server was restarted", async () => {
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

/** A proxy that serves the Hub under a path, and remembers what was requested outside of it. */
async function underPath(hub: Hub, path: string) {
  const outside: string[] = [];
  const server = createServer((incoming, outgoing) => {
    const target = incoming.url!.startsWith(path) ? `/${incoming.url!.slice(path.length)}` : undefined;
    if (target === undefined) {
      outside.push(incoming.url!);
      outgoing.writeHead(404).end();
      return;
    }
    const { method, headers } = incoming;
    const forwarded = request(new URL(target, hub.url), { method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(outgoing);
    });
    forwarded.on("error", () => outgoing.destroy());
    outgoing.on("close", () => forwarded.destroy());
    incoming.pipe(forwarded);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    outside: () => outside.filter((url) => url !== "/favicon.ico"),
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

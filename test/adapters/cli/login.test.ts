import { chmod, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { checkUrl, isLoopback } from "../../../adapters/cli/hosts.ts";
import { ALL, OTHER, startHub } from "../../support/hub.ts";
import { cli, serve } from "./cli.ts";
import { onTerminal } from "./terminal.ts";

/** A configuration folder for one test, and no Hub in the environment. */
async function freshConfig() {
  const folder = await mkdtemp(join(tmpdir(), "hub-config-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  return {
    file: join(folder, "serveraihub/hosts.json"),
    env: { XDG_CONFIG_HOME: folder, HUB_URL: "", HUB_KEY: "" },
  };
}

describe("hub login", () => {
  test("hub login stores the address and key, readable by the user only, and later commands use them", async () => {
    await using hub = await startHub();
    const { env, file } = await freshConfig();

    const login = await cli(hub, ["login", `${hub.url}/api/v1/`], { env, stdin: `${ALL.key}\n` });
    const recipes = await cli(hub, ["recipes"], { env });
    const hosts = await cli(hub, ["hosts"], { env });

    expect(login).toMatchObject({ code: 0, stderr: "" });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject({
      hosts: { [new URL(hub.url).host]: { url: hub.url } },
    });
    expect(recipes.code).toBe(0);
    expect(login.stdout + hosts.stdout).not.toContain(ALL.key);
    expect(hosts.stdout).toContain(hub.url);
  });

  test("hub login stores several Hubs by name; --host chooses one, and hub logout removes it", async () => {
    await using hub = await startHub();
    const { env } = await freshConfig();
    await cli(hub, ["login", hub.url, "--host", "acme"], { env, stdin: ALL.key });
    await cli(hub, ["login", hub.url, "--host", "other"], { env, stdin: OTHER.key });

    const ran = await cli(hub, ["--host", "acme", "run", "hello", "--wait", "--json"], { env });
    const byDefault = await cli(hub, ["run", "hello", "--wait", "--json"], { env });
    const out = await cli(hub, ["logout", "--host", "acme"], { env });
    const gone = await cli(hub, ["runs", "--host", "acme"], { env });

    expect(JSON.parse(ran.stdout)).toMatchObject({ key_name: ALL.name });
    expect(JSON.parse(byDefault.stdout)).toMatchObject({ key_name: OTHER.name });
    expect(out.code).toBe(0);
    expect(gone.code).toBe(64);
  });

  test("hub login stores no key that the Hub does not accept", async () => {
    await using hub = await startHub();
    const { env, file } = await freshConfig();

    const login = await cli(hub, ["login", hub.url], { env, stdin: "sk_wrong" });

    expect(login.code).toBe(69);
    await expect(stat(file)).rejects.toThrow("ENOENT");
  });

  test("hub never sends a stored key to another address", async () => {
    await using hub = await startHub();
    const { env } = await freshConfig();
    await cli(hub, ["login", hub.url], { env, stdin: ALL.key });
    const seen: (string | undefined)[] = [];
    const elsewhere = await serve((request, response) => {
      seen.push(request.headers.authorization);
      response.end(JSON.stringify({ recipes: [] }));
    });

    await cli(hub, ["recipes"], { env: { ...env, HUB_URL: elsewhere } });
    const own = await cli(hub, ["recipes"], { env: { ...env, HUB_URL: `${hub.url}/` } });

    expect(new Set(seen)).toEqual(new Set([undefined]));
    expect(own.code).toBe(0);
  });

  test("hub refuses a hosts file that other users can read, and exits with 64", async () => {
    await using hub = await startHub();
    const { env, file } = await freshConfig();
    await cli(hub, ["login", hub.url], { env, stdin: ALL.key });

    await chmod(file, 0o644);
    const open = await cli(hub, ["recipes"], { env });

    expect(open).toMatchObject({ code: 64, stderr: expect.stringContaining("chmod 600") });
  });

  test.for([
    ["http://localhost:1", true],
    ["http://127.0.0.2:1", true],
    ["http://127.1:1", true],
    ["http://[::1]:1", true],
    ["http://localhost.evil.example", false],
    ["http://127.evil.example", false],
    ["http://evil.example", false],
  ] as const)("%s is loopback, so a key in plain text stays on this machine: %s", ([url, isLocal]) => {
    expect(isLoopback(new URL(url).hostname)).toBe(isLocal);
  });

  test.for([
    ["127.0.0.1:8787", "http://127.0.0.1:8787"],
    ["localhost:8787/hub/", "http://localhost:8787/hub"],
    ["[::1]:8787", "http://[::1]:8787"],
    ["hub.example.com", "https://hub.example.com"],
    ["hub.example.com:8443/api/v1/", "https://hub.example.com:8443"],
    ["http://hub.example.com", "http://hub.example.com"],
  ] as const)("the address %s means %s", ([typed, meant]) => {
    expect(checkUrl(typed, "HUB_URL")).toBe(meant);
  });

  test("hub hosts without a stored Hub prints a sentence and no table", async () => {
    const { env } = await freshConfig();
    expect(await cli("", ["hosts"], { env })).toEqual({
      code: 0,
      stdout: "",
      stderr: "No Hub is stored. Store one with `hub login`\n",
    });
  });

  test("hub login asks for the key on a terminal without showing it", async () => {
    await using hub = await startHub();
    const { env } = await freshConfig();
    const terminal = await onTerminal(hub, ["login", hub.url], { env });
    await terminal.shows("API key: ");

    terminal.press(`${ALL.key}\r`);

    expect(await terminal.ended).toBe(0);
    expect(terminal.screen()).not.toContain(ALL.key);
    expect(terminal.screen()).toContain("it is now the default");
  });
});

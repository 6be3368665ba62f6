import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { agentPair, makeAgentKey } from "../../adapters/keys/agent-pair.ts";
import { readNodeConfig } from "../../adapters/node/config.ts";
import { unixFetch } from "../../adapters/node/unix-fetch.ts";
import { agentClient } from "../../handlers/agent-client.ts";
import { httpTransport } from "../../handlers/agent-transport.ts";
import { PrivateKey, requestSigner } from "../../host-agent/protocol/signature.ts";
import { startAgentProcess } from "../support/deployments.ts";
import { until } from "../support/hub.ts";
import { tempDir } from "../support/temp-dir.ts";

describe("an agent that does not know the key of the edge", () => {
  test("answers 502 without a reason to the client, and the reason is in the log of the agent", async () => {
    const dir = tempDir();
    const agent = await startAgentProcess({ dir, env: agentEnv(dir) });
    onTestFinished(() => agent.stop());
    const stranger = await requestSigner(await makeAgentKey(), "host-agent");
    const fetch = unixFetch(join(dir, "agent.sock"));

    const asking = agentClient(httpTransport({ url: "http://host-agent", fetch, sign: stranger })).health();

    await expect(asking).rejects.toMatchObject({ code: "agent_error", status: 502 });
    await expect(asking).rejects.not.toThrow(/key|sign|trust/i);
    await until(() => agent.output().includes('"reason":"unknown_key"') || undefined);
    await expect(
      agentClient(
        httpTransport({
          url: "http://host-agent",
          fetch,
          sign: await requestSigner(agent.key, "host-agent"),
        }),
      ).health(),
    ).resolves.toMatchObject({ status: "ok" });
  });
});

describe("the settings of the agent", () => {
  test("its socket is open to its own user only, and replaces that of a dead agent but not of a live one", async () => {
    const dir = tempDir();
    const setup = { dir, env: agentEnv(dir) };
    const first = await startAgentProcess(setup);
    onTestFinished(() => first.stop());
    expect(statSync(join(dir, "agent.sock")).mode & 0o777).toBe(0o600);

    await expect(startAgentProcess(setup)).rejects.toThrow(/ended with 78.*another process listens on/s);
    await first.stop("SIGKILL");
    expect(statSync(join(dir, "agent.sock")).isSocket()).toBe(true);
    const second = await startAgentProcess(setup);
    await second.stop();
    expect(statSync(join(dir, "agent.sock"), { throwIfNoEntry: false })).toBeUndefined();
  });

  test.for([
    ["HUB_AGENT_LISTEN", "8788"],
    ["HUB_AGENT_LISTEN", "unix:relative"],
    ["HUB_AGENT_LISTEN", "127.0.0.1:99999"],
    ["HUB_AGENT_NAME", "two words"],
    ["HUB_AGENT_TRUST", "/dev/null"],
    ["HUB_STATE_DIR", "/dev/null/state"],
  ] as const)("%s=%s refuses the start and names the setting", async ([name, value]) => {
    const dir = tempDir();
    const address = name === "HUB_AGENT_LISTEN" ? value : undefined;
    const env = { ...agentEnv(dir), [name]: value };

    const starting = startAgentProcess({ dir, env }, address, name === "HUB_AGENT_TRUST" ? value : undefined);

    await expect(starting).rejects.toThrow(new RegExp(`ended with 78: Cannot start\\.\n${name}: `));
  });
});

describe("the settings of the edge for a remote agent", () => {
  test("a bad URL or key refuses the start and shows no part of a key", async () => {
    const dir = tempDir();
    const key = await makeAgentKey();
    const url = { HUB_AGENT_URL: "unix:/run/agent.sock" };
    const bad: [Record<string, string>, RegExp][] = [
      [{ HUB_AGENT_URL: "agent:8788", HUB_AGENT_KEY: "{}" }, /^HUB_AGENT_URL: must be http/],
      [{ HUB_AGENT_URL: "http://host/path", HUB_AGENT_KEY: "{}" }, /^HUB_AGENT_URL: must be http/],
      [{ HUB_AGENT_URL: "unix:agent.sock", HUB_AGENT_KEY: "{}" }, /^HUB_AGENT_URL: must be http/],
      [
        { HUB_AGENT_URL: "http://10.0.0.7:8788", HUB_AGENT_KEY: "{}" },
        /^HUB_AGENT_URL: .* is plain http to another/,
      ],
      [url, /^HUB_AGENT_KEY: must be the private key/],
      [{ ...url, HUB_AGENT_KEY: join(dir, "none") }, /^HUB_AGENT_KEY: .* cannot be read: ENOENT$/],
      [
        { ...url, HUB_AGENT_KEY: JSON.stringify(key).slice(0, -2) },
        /^HUB_AGENT_KEY: its value is not JSON\. It must be the private key/,
      ],
      [
        { ...url, HUB_AGENT_KEY: JSON.stringify({ ...key, x: "short" }) },
        /^HUB_AGENT_KEY: .* x: must be 32 bytes/,
      ],
      [{ ...url, HUB_AGENT_KEY: JSON.stringify({ ...key, kid: undefined }) }, /^HUB_AGENT_KEY: .* kid: /],
    ];
    for (const [env, message] of bad) {
      expect(() => readNodeConfig(env)).toThrow(message);
      expect(() => readNodeConfig(env)).not.toThrow(new RegExp(`${key.d}|${key.d.slice(0, -2)}`));
    }
    expect(readNodeConfig({ ...url, HUB_AGENT_KEY: JSON.stringify(key) }).remoteAgent).toMatchObject({ key });
  });
});

test("plain http to a remote agent is for loopback, unless HUB_AGENT_ALLOW_HTTP allows a private network", async () => {
  const key = { HUB_AGENT_KEY: JSON.stringify(await makeAgentKey()) };
  const urlOf = (env: Record<string, string>) => readNodeConfig({ ...key, ...env }).remoteAgent?.url;

  for (const url of [
    "http://127.0.0.1:8788",
    "http://[::1]:8788",
    "http://localhost:8788",
    "https://10.0.0.7",
  ]) {
    expect(urlOf({ HUB_AGENT_URL: url })).toBe(url);
  }
  expect(() => urlOf({ HUB_AGENT_URL: "http://localhost.example:8788" })).toThrow(/plain http/);
  expect(urlOf({ HUB_AGENT_URL: "http://10.0.0.7:8788", HUB_AGENT_ALLOW_HTTP: "1" })).toBe(
    "http://10.0.0.7:8788",
  );
});

describe("agent-pair", () => {
  test("trusts a new key in addition to the old ones, and prints its private key alone", async () => {
    const dir = tempDir();
    const env = { ...agentEnv(dir), HUB_AGENT_TRUST: join(dir, "new", "trusted.json") };
    const printed: string[] = [];
    const notes: string[] = [];
    const output = { key: (line: string) => printed.push(line), note: (line: string) => notes.push(line) };
    await agentPair(env, output);
    await agentPair(env, output);

    const keys = printed.map((line) => PrivateKey.parse(JSON.parse(line)));
    for (const { d } of keys) expect(notes.join()).not.toContain(d);
    const text = readFileSync(env.HUB_AGENT_TRUST, "utf8");
    const trusted = JSON.parse(text) as { keys: PrivateKey[] };

    expect(trusted.keys.map(({ kid, x }) => [kid, x])).toEqual(keys.map(({ kid, x }) => [kid, x]));
    expect(text).not.toContain('"d"');
    expect(statSync(env.HUB_AGENT_TRUST).mode & 0o777).toBe(0o600);
    writeFileSync(env.HUB_AGENT_TRUST, "{broken");
    await expect(agentPair(env, output)).rejects.toThrow(env.HUB_AGENT_TRUST);
    expect(readFileSync(env.HUB_AGENT_TRUST, "utf8")).toBe("{broken");
  });

  test("writes the private key to a new file for its owner only, and trusts no key that nobody has", async () => {
    const dir = tempDir();
    const env = { ...agentEnv(dir), HUB_AGENT_TRUST: join(dir, "trusted.json") };
    const file = join(dir, "agent_key.json");
    const output = { key: () => expect.unreachable("the key is printed"), note: () => {}, file };
    await agentPair(env, output);

    const { d: _secret, ...publicKey } = PrivateKey.parse(JSON.parse(readFileSync(file, "utf8")));
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const trusted = readFileSync(env.HUB_AGENT_TRUST, "utf8");
    expect(JSON.parse(trusted).keys).toEqual([publicKey]);
    // Not over the key of another edge.
    await expect(agentPair(env, output)).rejects.toThrow(`--out: ${file} cannot be created: EEXIST`);
    expect(readFileSync(env.HUB_AGENT_TRUST, "utf8")).toBe(trusted);
  });
});

function agentEnv(dir: string): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HUB_STATE_DIR: join(dir, "state"),
    HUB_SCRIPT_ROOTS: dir,
  };
}

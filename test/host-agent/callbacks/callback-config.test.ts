import { describe, expect, test } from "vitest";

import { readAgentConfig } from "../../../host-agent/config.ts";
import { SECRET } from "./callbacks-world.ts";

const env = (hosts: string) => ({ HUB_CALLBACK_HOSTS: hosts, HUB_CALLBACK_SECRET: SECRET });

describe("the settings of callbacks", () => {
  test.for([
    ["hooks.example.com", "https:", "hooks.example.com", "", false],
    ["HOOKS.example.com:8443", "https:", "hooks.example.com", "8443", false],
    ["https://hooks.example.com:443", "https:", "hooks.example.com", "", false],
    ["http://127.0.0.1:9000", "http:", "127.0.0.1", "9000", true],
    ["[::1]:9000", "https:", "[::1]", "9000", true],
    ["http://localhost:80", "http:", "localhost", "", true],
    ["ci.corp+private", "https:", "ci.corp", "", true],
    ["bücher.example", "https:", "xn--bcher-kva.example", "", false],
  ] as const)("%s is taken", ([entry, protocol, hostname, port, mayBePrivate]) => {
    expect(readAgentConfig(env(` ${entry} ,`)).callbacks.hosts).toEqual([
      { protocol, hostname, port, mayBePrivate },
    ]);
  });

  test.for([
    "https://a.example/path",
    "ftp://a.example",
    "*.example.com",
    "a b",
    "user@a.example",
    "a.example:99999",
    "a?b",
  ])("%s stops the start", (entry) => {
    expect(() => readAgentConfig(env(entry))).toThrow(/^HUB_CALLBACK_HOSTS: must be hosts like/);
  });

  test.for([
    undefined,
    "",
    "sk_live_hidden",
    "whsec_aGlkZGVu",
    "whsec_hidden!".padEnd(50, "x"),
    `${SECRET},`,
    `${SECRET},whsec_aGlkZGVu`,
    Array(5).fill(SECRET).join(","),
  ])("a secret %s stops the start, and is not shown", (secret) => {
    const values = { HUB_CALLBACK_HOSTS: "a.example", HUB_CALLBACK_SECRET: secret };
    expect(() => readAgentConfig(values)).toThrow(/^HUB_CALLBACK_SECRET: must be (?!.*(?:hidden|aGlk))/);
  });

  test("two secrets are taken, the new one first", () => {
    const values = { HUB_CALLBACK_HOSTS: "a.example", HUB_CALLBACK_SECRET: `${SECRET},${SECRET}` };
    expect(readAgentConfig(values).callbacks.secrets).toEqual([SECRET, SECRET]);
  });

  test("no secret is needed without hosts", () => {
    expect(readAgentConfig({}).callbacks).toEqual({ hosts: [], secrets: [] });
  });
});

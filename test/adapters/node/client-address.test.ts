import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";

import { expect, test } from "vitest";

import { clientAddress, parseTrustedProxy } from "../../../adapters/node/client-address.ts";
import { startHub } from "../../support/hub.ts";
import { rawRequest } from "../../support/raw-socket.ts";

const TRUSTED = ["127.0.0.1", "10.0.0.0/8", "fd00::/8", "unix"].map((text) => parseTrustedProxy(text)!);

/** The client's address of a request over a connection from `peer` with these headers. */
function addressOf(peer: string, headersDistinct: Record<string, string[]>): string | undefined {
  const headers = Object.fromEntries(
    Object.entries(headersDistinct).map(([name, values]) => [name, values.join(", ")]),
  );
  return clientAddress(
    { socket: { remoteAddress: peer }, headers, headersDistinct } as unknown as IncomingMessage,
    TRUSTED,
  );
}

test.for([
  ["203.0.113.9", {}, "203.0.113.9"],
  ["203.0.113.9", { "x-forwarded-for": ["198.51.100.1"], forwarded: ["for=198.51.100.1"] }, "203.0.113.9"],
  ["127.0.0.1", {}, "127.0.0.1"],
  ["127.0.0.1", { "cf-connecting-ip": ["198.51.100.1"], "x-real-ip": ["198.51.100.1"] }, "127.0.0.1"],
  ["127.0.0.1", { "x-forwarded-for": ["198.51.100.1"] }, "198.51.100.1"],
  ["::ffff:127.0.0.1", { "x-forwarded-for": ["198.51.100.1:443"] }, "198.51.100.1"],
  ["127.0.0.1", { "x-forwarded-for": ["8.8.8.8, 198.51.100.1, 10.1.2.3"] }, "198.51.100.1"],
  ["127.0.0.1", { "x-forwarded-for": ["8.8.8.8", "198.51.100.1"] }, "198.51.100.1"],
  ["127.0.0.1", { "x-forwarded-for": ["8.8.8.8, nonsense, 10.1.2.3"] }, "10.1.2.3"],
  ["127.0.0.1", { "x-forwarded-for": ["2001:db8::7"] }, "2001:db8::7"],
  [
    "fd00::1",
    { forwarded: ['for=8.8.8.8, for="[2001:db8::7]:47011";proto=https;by=10.0.0.1'] },
    "2001:db8::7",
  ],
  [
    "127.0.0.1",
    { forwarded: ["proto=https;For=198.51.100.1"], "x-forwarded-for": ["8.8.8.8"] },
    "198.51.100.1",
  ],
  ["127.0.0.1", { forwarded: ["for=8.8.8.8, for=unknown"] }, "127.0.0.1"],
  ["127.0.0.1", { forwarded: ['for="_a,for=8.8.8.8"'] }, "127.0.0.1"],
  ["127.0.0.1", { "x-forwarded-for": ["10.0.0.1, 10.0.0.2"] }, "10.0.0.1"],
] as const)("a connection from %s with %j is of the client %s", ([peer, headers, address]) => {
  expect(addressOf(peer, headers as unknown as Record<string, string[]>)).toBe(address);
});

test.for([
  [{ HUB_TRUSTED_PROXIES: "127.0.0.1, ::1" }, "203.0.113.7"],
  [{}, "127.0.0.1"],
] as const)(
  "with the settings %j a client behind a proxy is counted and recorded as %s",
  async ([env, address]) => {
    await using hub = await startHub({ env: { ...env, HUB_FAILED_AUTH_PER_MINUTE: "2" } });
    const ask = (client: string) =>
      rawRequest(
        hub.url,
        `GET /api/v1/scripts HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: ${client}\r\nCF-Connecting-IP: 192.0.2.1\r\n\r\n`,
      );
    const statuses = [await ask("203.0.113.7"), await ask("203.0.113.7"), await ask("203.0.113.7")];
    expect(statuses.map(({ status }) => status)).toEqual([401, 401, 429]);
    expect((await ask("203.0.113.8")).status).toBe(address === "127.0.0.1" ? 429 : 401);
    const lines = readFileSync(join(hub.stateDir, "audit.log"), "utf8").trim().split("\n");
    const refused = lines.map((line) => JSON.parse(line)).find(({ event }) => event === "refused");
    expect(refused.address).toBe(address);
  },
);

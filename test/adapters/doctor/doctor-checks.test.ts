import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";

import { expect, onTestFinished, test, vi } from "vitest";

import { makeAgentKey } from "../../../adapters/keys/agent-pair.ts";
import { readNodeConfig } from "../../../adapters/node/config.ts";
import { agent } from "../../../adapters/doctor/checks/agent.ts";
import { clock } from "../../../adapters/doctor/checks/clock.ts";
import { disk } from "../../../adapters/doctor/checks/disk.ts";
import { ageOf } from "../../../adapters/doctor/checks/runtime.ts";
import type { Patient } from "../../../adapters/doctor/finding.ts";

test.for([
  [-3_600_000, "fail"],
  [3_600_000, "fail"],
  [0, "pass"],
] as const)(
  "the doctor reports an agent whose clock differs by %i ms as %s, with what to do",
  async ([away, status]) => {
    const server = createServer((_request, response) => {
      response.setHeader("date", new Date(Date.now() + away).toUTCString());
      response.setHeader("content-type", "application/json");
      response.end("{}");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const remoteAgent = { url, name: "host-agent", key: await makeAgentKey() };

    const findings = await agent.look({ node: { remoteAgent } } as Patient);

    expect(findings[0]).toMatchObject({ status, says: expect.stringContaining("The clock here") });
    expect(findings[0]).toMatchObject(
      status === "fail" ? { advice: "Run an NTP client on both hosts." } : {},
    );
  },
);

test.for([
  ["22.20.0", "fail"],
  ["24.15.9", "fail"],
  ["24.16.0", "pass"],
  ["26.1.0", "pass"],
] as const)("the doctor reports Node %s as %s", ([node, status]) => {
  expect(ageOf({ node, uv: "1.52.1" })).toMatchObject({ status, says: expect.stringContaining(node) });
});

test.for([
  ["before this product existed", Date.parse("2001-02-03"), /^The clock shows 2001-02-03/],
  ["changed during the check", Date.now() + 3_600_000, /^The clock was changed by \d{7} ms/],
] as const)("the doctor fails on a clock that is %s, with what to do", async ([, now, says]) => {
  vi.useFakeTimers({ toFake: ["Date"], now });
  onTestFinished(() => void vi.useRealTimers());
  expect(await clock.look({} as Patient)).toEqual([
    { status: "fail", says: expect.stringMatching(says), advice: expect.stringContaining("NTP") },
  ]);
});

test("the doctor fails on a state folder whose file system is full", async () => {
  // sysfs has no free space.
  const patient = { agent: { stateDir: "/sys/hub", recipesFile: "/sys/none.json" } } as Patient;
  expect(await disk.look(patient)).toContainEqual(
    expect.objectContaining({
      status: "fail",
      says: "/sys has 0 MiB free.",
      advice: expect.stringMatching(/enlarge/),
    }),
  );
});

test("the doctor warns of a cap on logs that the disk cannot reach, and of one that a single log exceeds", async () => {
  expect(await capFindings({ maxLogsBytes: 1e18, maxLogBytes: 1_024 })).toEqual(["warn"]);
  expect(await capFindings({ maxLogsBytes: 1_048_576, maxLogBytes: 2_097_152 })).toEqual(["warn"]);
  expect(await capFindings({ maxLogsBytes: 1_048_576, maxLogBytes: undefined })).toEqual(["warn"]);
  expect(await capFindings({ maxLogsBytes: 1_048_576, maxLogBytes: 1_048_576 })).toEqual([]);
  expect(await capFindings({ maxLogBytes: 1_024 })).toEqual([]);
});

test("limits that are not set have the defaults of the README", () => {
  const { agent: limits, ...edge } = readNodeConfig({ HOME: "/home/hub", PATH: "/usr/bin" });
  expect(limits).toMatchObject({
    maxRunning: 64,
    maxLogBytes: 1_073_741_824,
    keepRunsDays: 30,
    maxLogsBytes: undefined,
    runAs: undefined,
  });
  expect(edge).toMatchObject({
    host: "127.0.0.1",
    ratePerKey: undefined,
    failedAuthPerMinute: 10,
    allowOpen: false,
    hosts: [],
    trustedProxies: [],
  });
});

/** The states of what the doctor finds about these limits of logs. */
async function capFindings(limits: object): Promise<string[]> {
  const settings = { stateDir: tmpdir(), recipesFile: "/none.json", ...limits };
  const findings = await disk.look({ agent: settings } as Patient);
  return findings.filter(({ says }) => says.includes("HUB_MAX_LOGS_BYTES")).map(({ status }) => status);
}

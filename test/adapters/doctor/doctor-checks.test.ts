import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

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
  "an agent whose clock is %i ms away is a %s, with what to do about it",
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
] as const)("Node %s is a %s", ([node, status]) => {
  expect(ageOf({ node, uv: "1.52.1" })).toMatchObject({ status, says: expect.stringContaining(node) });
});

test.for([
  ["before this product was made", Date.parse("2001-02-03"), /^The clock says 2001-02-03/],
  ["set while the doctor looks", Date.now() + 3_600_000, /^The clock was set by \d{7} ms/],
] as const)("a clock that is %s is red, with what to do about it", async ([, now, says]) => {
  vi.useFakeTimers({ toFake: ["Date"], now });
  onTestFinished(() => void vi.useRealTimers());
  expect(await clock.look({} as Patient)).toEqual([
    { status: "fail", says: expect.stringMatching(says), advice: expect.stringContaining("NTP") },
  ]);
});

test("a state folder on a file system without room is red", async () => {
  // The kernel's own file system has none to give.
  const patient = { agent: { stateDir: "/sys/hub", recipesFile: "/sys/none.json" } } as Patient;
  expect(await disk.look(patient)).toContainEqual(
    expect.objectContaining({
      status: "fail",
      says: "/sys has 0 MiB free.",
      advice: expect.stringMatching(/room/),
    }),
  );
});

test("limits that nobody has set are those of the README", () => {
  const { agent: limits, ...edge } = readNodeConfig({ HOME: "/home/hub", PATH: "/usr/bin" });
  expect(limits).toMatchObject({
    maxRunning: 64,
    maxLogBytes: 1_073_741_824,
    keepRunsDays: 30,
    runAs: undefined,
  });
  expect(edge).toMatchObject({
    host: "127.0.0.1",
    ratePerKey: undefined,
    failedAuthPerMinute: 10,
    allowOpen: false,
  });
});

import { expect, test } from "vitest";

import { lookAtCgroups } from "../../../adapters/doctor/checks/cgroups.ts";
import { readAgentConfig } from "../../../host-agent/config.ts";

const agent = (env: Record<string, string> = {}) => readAgentConfig({ HOME: "/nowhere", ...env });
const at =
  (path: string, ...controllers: ("memory" | "cpu" | "pids")[]) =>
  () => ({
    path,
    controllers: new Set(controllers),
    why: controllers.length === 3 ? undefined : "of a reason",
  });

test("the doctor says that runs get a cgroup, and which limits they cannot have", () => {
  expect(lookAtCgroups(agent(), at("/c", "memory", "cpu", "pids"))).toEqual([
    { status: "pass", says: "Each run gets a cgroup in /c, with limits where they are set." },
  ]);
  expect(lookAtCgroups(agent(), at("/c", "pids"))).toEqual([
    {
      status: "pass",
      says: "Each run gets a cgroup in /c. It cannot have memory_max, cpu_max, because of a reason.",
    },
  ]);
});

test("the doctor warns that runs get no cgroup, and says where to read how to get it", () => {
  const [finding] = lookAtCgroups(agent(), () => ({
    path: undefined,
    why: "hub.service has no Delegate=yes",
  }));
  expect(finding).toMatchObject({
    status: "warn",
    says: expect.stringContaining("because hub.service has no Delegate=yes"),
    advice: expect.stringContaining("docs/deploy.md"),
  });
});

test("the doctor fails for a default limit that cannot be enforced, and for a HUB_CGROUP that cannot be used", () => {
  const found = lookAtCgroups(agent({ HUB_MEMORY_MAX: "2G", HUB_PIDS_MAX: "100" }), at("/c", "pids"));
  expect(found.map(({ status }) => status)).toEqual(["pass", "fail"]);
  expect(found[1]!.says).toBe("HUB_MEMORY_MAX cannot be enforced, because of a reason.");
  const [wrong] = lookAtCgroups(agent({ HUB_CGROUP: "/nowhere/at/all" }));
  expect(wrong).toMatchObject({ status: "fail", says: expect.stringContaining("it does not exist") });
});

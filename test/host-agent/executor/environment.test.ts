import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { readAgentConfig } from "../../../host-agent/config.ts";
import { buildEnvironment, DEFAULT_PATH } from "../../../host-agent/executor/environment.ts";
import { startHub } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";

test("a run started by npm start never runs a program that another user has put into a node_modules folder", async () => {
  const strangers = join(tempDir(), "node_modules", ".bin");
  mkdirSync(strangers, { recursive: true });
  writeFileSync(join(strangers, "uname"), "#!/bin/sh\necho stranger\n");
  chmodSync(join(strangers, "uname"), 0o755);
  const recipe = { recipe_id: "uname", title: "Uname", description: "", command: ["uname"] };
  await using hub = await startHub({ recipes: [recipe], env: { PATH: `${strangers}:/usr/bin:/bin` } });

  const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "uname" });
  const script = await hub.runScript('echo "$PATH"; uname');

  await Promise.all([hub.ended(run), hub.ended(script)]);
  expect(await hub.log(run)).toBe("Linux\n");
  expect(await hub.log(script)).toBe("/usr/bin:/bin\nLinux\n");
});

test("the PATH of a run is HUB_PATH, else the service's without node_modules and relative folders, else the distribution's", () => {
  const npm = "/a/node_modules/.bin:/node_modules/.bin:/b/node_modules/npm/bin/node-gyp-bin";
  expect(pathOf({ PATH: `${npm}:/usr/bin:bin::.:/usr/bin:/opt/my_node_modules/bin` })).toBe(
    "/usr/bin:/opt/my_node_modules/bin",
  );
  for (const PATH of ["", npm, ":."]) expect(pathOf({ PATH })).toBe(DEFAULT_PATH);
  expect(pathOf({})).toBe(DEFAULT_PATH);
  expect(pathOf({ PATH: "/bin", HUB_PATH: "/srv/bin:/bin" })).toBe("/srv/bin:/bin");
  expect(buildEnvironment({ HUB_PATH: "/srv/bin" }, "run", { PATH: "/of/the/recipe" })["PATH"]).toBe(
    "/of/the/recipe",
  );
});

test.for(["", "bin", "/bin:", "/bin:.:/usr/bin", "~/bin"])(
  "a HUB_PATH with a folder that is not absolute stops the start: %j",
  (HUB_PATH) => {
    expect(() => readAgentConfig({ HUB_PATH })).toThrow(
      `HUB_PATH: must be absolute folders, separated by colons, but it is ${JSON.stringify(HUB_PATH)}`,
    );
  },
);

function pathOf(env: Record<string, string>): string | undefined {
  return buildEnvironment(env, "run")["PATH"];
}

import { existsSync, lstatSync, readFileSync, readlinkSync, symlinkSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { openLogIndex } from "../../../host-agent/logs/log-index.ts";
import { startHub } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";

test("the log of a run is found by its id in the state folder, also one in the log_dir of a recipe", async () => {
  const logDir = tempDir();
  const elsewhere = {
    recipe_id: "elsewhere",
    title: "",
    description: "",
    command: ["echo", "hi"],
    log_dir: logDir,
  };
  await using hub = await startHub({ recipes: [{ ...elsewhere, title: "E" }] });
  const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "elsewhere" });
  const script = await hub.runScript("echo script");
  await hub.ended(run);
  await hub.ended(script);
  const linkOf = (id: string) => join(hub.stateDir, "logs", "by-run", `${id}.log`);

  expect(readFileSync(linkOf(run.run_id), "utf8")).toBe("hi\n");
  expect(readFileSync(linkOf(script.run_id), "utf8")).toBe("script\n");
  expect(readlinkSync(linkOf(script.run_id)), "a folder that is moved stays whole").toMatch(
    /^\.\.\/[^/]+\.log$/,
  );
  // The agent and the API see one log, and no second one.
  expect((await hub.get("/api/v1/scripts/runs")).json.runs).toHaveLength(1);
});

test("a link that others have put into the index is neither followed nor replaced, and a launch does not fail for it", async () => {
  const folder = join(tempDir(), "by-run");
  const index = openLogIndex(folder);
  symlinkSync("/etc/passwd", join(folder, "run_1.log"));
  index.add("run_1", "/var/log/a.log");
  expect(readlinkSync(join(folder, "run_1.log"))).toBe("/etc/passwd");
  await index.remove("run_1");
  expect(lstatSync(join(folder, "run_1.log"), { throwIfNoEntry: false })).toBeUndefined();
  expect(existsSync("/etc/passwd")).toBe(true);
  await index.remove("run_1");
});

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Hub, startHub } from "../support/hub.ts";
import { PYTHON } from "../support/shell.ts";
import { needsTool, pageVariables, runTool, startExampleHub, TOOLS } from "./tools.ts";

const JAR = join(TOOLS, "@openapitools/openapi-generator-cli/bin/openapi-generator.jar");
const HAS_JAVA = spawnSync("java", ["-version"]).status === 0;
const NO_JAVA = "default-jre-headless is not installed";

/** Debian's Python, or another that has what the generated client imports. */
const GENERATED_IMPORTS = "import certifi, dateutil, six, urllib3";
const python = [PYTHON, "python3"].find((file) => spawnSync(file, ["-c", GENERATED_IMPORTS]).status === 0);

const PROGRAM = `
import os, sys
import openapi_client as hub

configuration = hub.Configuration(host=os.environ["HUB_URL"])
configuration.access_token = os.environ["HUB_KEY"]
with hub.ApiClient(configuration) as client:
    pipelines = hub.PipelinesApi(client)
    order = hub.PipelineLaunch(recipe_id="build_all_extra_features", label="generated")
    run = pipelines.launch_pipeline(order, idempotency_key="once")
    again = pipelines.launch_pipeline(order, idempotency_key="once")
    log = pipelines.read_pipeline_log(run.run_id, wait=20)
    found = pipelines.list_pipeline_runs(label="generated").runs
    killed = pipelines.kill_pipeline_run(run.run_id)
    print(run.status, run.spec.recipe_id, again.run_id == run.run_id, log.chunk.strip())
    print([one.run_id for one in found] == [run.run_id], killed.status)
    try:
        pipelines.get_pipeline_run("run_000000000000")
    except hub.ApiException as error:
        print(error.status)
`;

describe("openapi-generator", () => {
  test(
    "finds no fault in the document in OpenAPI 3.0",
    needsTool("openapi-generator", HAS_JAVA, NO_JAVA),
    async () => {
      await using hub = await startHub();

      const said = await generator(hub, ["validate", "-i", await documentOf(hub)]);

      expect(said).toContain("No validation issues detected.");
    },
  );

  test(
    "makes a Python client of the document that launches a run once, reads its log, finds and kills it",
    needsTool(
      "openapi-generator",
      HAS_JAVA && python !== undefined,
      HAS_JAVA
        ? "python3-urllib3, python3-dateutil, python3-six or python3-certifi is not installed"
        : NO_JAVA,
    ),
    async () => {
      await using hub = await startExampleHub();
      const client = join(hub.dir, "client");
      await generator(hub, ["generate", "-i", await documentOf(hub), "-g", "python", "-o", client]);

      const said = await runTool(client, [python!, "-c", PROGRAM], pageVariables(hub));

      expect(said).toBe("running build_all_extra_features True begun\nTrue killed\n404\n");
    },
  );
});

/** The output of a command of openapi-generator, which must succeed. */
function generator(hub: Hub, command: string[]): Promise<string> {
  return runTool(hub.dir, ["java", "-XX:TieredStopAtLevel=1", "-jar", JAR, ...command]);
}

async function documentOf(hub: Hub): Promise<string> {
  const path = join(hub.dir, "openapi-3.0.json");
  writeFileSync(path, (await hub.get("/openapi-3.0.json")).bytes);
  return path;
}

import { expect, test } from "vitest";

import { publicAgent } from "../../handlers/public-agent.ts";
import type { Agent } from "../../host-agent/protocol/agent.ts";
import type { LaunchOrder } from "../../host-agent/protocol/launch.ts";
import { ApiProblem, invalidField } from "../../host-agent/protocol/problem.ts";

const ORDER = { source: "pipeline" } as LaunchOrder;
const RUN_ID = "run_0123456789ab";

/** An agent of which every operation throws. */
function failing(thrown: unknown): Agent {
  const fail = () => Promise.reject(thrown);
  return publicAgent({
    within: () => expect.fail(),
    health: fail,
    listRecipes: fail,
    listScripts: fail,
    readScript: fail,
    launch: fail,
    previewLaunch: fail,
    listRuns: fail,
    getRun: fail,
    killRun: fail,
    readLog: fail,
  });
}

test("a field that the agent names is found in the body of a launch, in its errors and its detail", async () => {
  const agent = failing(invalidField("args", "has a double quote"));
  const expected = {
    code: "invalid_request",
    message: "body.args: has a double quote",
    extras: { errors: [{ path: "body.args", message: "has a double quote" }] },
  };
  await expect(agent.launch(ORDER)).rejects.toMatchObject(expected);
  await expect(agent.previewLaunch(ORDER)).rejects.toMatchObject(expected);
});

test("several fields that the agent names keep their order", async () => {
  const errors = ["params.limit", "params.force"].map((path) => ({ path, message: "is wrong" }));
  const agent = failing(new ApiProblem("invalid_request", "any text", { errors }));
  await expect(agent.launch(ORDER)).rejects.toMatchObject({
    message: "body.params.limit: is wrong; body.params.force: is wrong",
  });
});

test("a problem of an older agent, which names the place and the URL itself, stays as it is", async () => {
  const fields = failing(invalidField("body.args", "is wrong"));
  await expect(fields.launch(ORDER)).rejects.toMatchObject({ message: "body.args: is wrong" });
  const detail = "recipe_id: there is no recipe x; GET /api/v1/pipelines/recipes lists them";
  const recipe = failing(new ApiProblem("recipe_not_found", detail));
  await expect(recipe.launch(ORDER)).rejects.toMatchObject({ message: detail });
});

test("what the agent does not find gets the route that lists it", async () => {
  const run = failing(new ApiProblem("run_not_found", "run_id: x"));
  await expect(run.getRun("script", RUN_ID)).rejects.toThrow("x; GET /api/v1/scripts/runs lists them");
  await expect(run.getRun("pipeline", RUN_ID)).rejects.toThrow("x; GET /api/v1/pipelines/runs lists them");
  const recipe = failing(new ApiProblem("recipe_not_found", "recipe_id: x"));
  await expect(recipe.launch(ORDER)).rejects.toThrow("x; GET /api/v1/pipelines/recipes lists them");
  const path = failing(new ApiProblem("path_forbidden", "path: x"));
  await expect(path.readScript("/x.sh")).rejects.toThrow("x; GET /api/v1/scripts lists them");
});

test("what else comes with an agent's problem comes with the public one", async () => {
  const extras = { size: 7, retryAfterSeconds: 3, cause: new Error("why") };
  const problem = new ApiProblem("run_not_found", "run_id: x", extras);
  await expect(failing(problem).getRun("script", RUN_ID)).rejects.toMatchObject({ extras });
});

test("a fault that is not an agent's problem stays the same object", async () => {
  const fault = new TypeError("ours");
  await expect(failing(fault).launch(ORDER)).rejects.toBe(fault);
});

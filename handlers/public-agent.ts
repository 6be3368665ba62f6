import type { Agent } from "../host-agent/protocol/agent.ts";
import { ApiProblem, describeErrors, type ProblemCode } from "../host-agent/protocol/problem.ts";
import type { Source } from "../host-agent/protocol/run.ts";
import { SURFACES } from "./surface.ts";
import type { Place } from "./validate.ts";

/** The path of a field that names its place already, as an agent of an older version writes it. */
const PLACED = /^(?:body|query|path)\./;

/**
 * The agent, whose problems name fields and know no URL, for the public API: to
 * each problem is added where in the request the field is (`args` becomes
 * `body.args`), and which public route lists what could not be found.
 */
export function publicAgent(agent: Agent): Agent {
  return {
    within: (reach) => publicAgent(agent.within(reach)),
    health: () => agent.health(),
    listRecipes: () => agent.listRecipes(),
    listScripts: (path) => agent.listScripts(path).catch(publish("query", "script")),
    readScript: (path) => agent.readScript(path).catch(publish("query", "script")),
    launch: (order, signal) => agent.launch(order, signal).catch(publish("body", order.source)),
    previewLaunch: (order) => agent.previewLaunch(order).catch(publish("body", order.source)),
    listRuns: (query) => agent.listRuns(query).catch(publish("query", query.source)),
    getRun: (source, ...rest) => agent.getRun(source, ...rest).catch(publish("path", source)),
    killRun: (source, ...rest) => agent.killRun(source, ...rest).catch(publish("body", source)),
    readLog: (source, ...rest) => agent.readLog(source, ...rest).catch(publish("query", source)),
  };
}

function publish(place: Place, source: Source): (thrown: unknown) => never {
  return (thrown) => {
    throw thrown instanceof ApiProblem ? publicProblem(thrown, place, source) : thrown;
  };
}

/** Leaves as it is what is public already. */
function publicProblem(problem: ApiProblem, place: Place, source: Source): ApiProblem {
  const { code, message, extras } = problem;
  const errors = extras.errors?.map((error) => ({
    ...error,
    path: PLACED.test(error.path) ? error.path : `${place}.${error.path}`,
  }));
  if (errors) {
    return new ApiProblem(code, describeErrors(errors), { ...extras, errors });
  }
  const list = listOf(code, source);
  const hint = `; GET ${list} lists them`;
  if (list === undefined || message.endsWith(hint)) return problem;
  return new ApiProblem(code, message + hint, extras);
}

/** The route that lists what a problem of this code did not find. */
function listOf(code: ProblemCode, source: Source): string | undefined {
  switch (code) {
    case "recipe_not_found":
      return "/api/v1/pipelines/recipes";
    case "path_forbidden":
      return "/api/v1/scripts";
    case "run_not_found":
      return SURFACES[source].base;
    default:
      return undefined;
  }
}

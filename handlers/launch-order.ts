import type { PreviewOrder } from "../host-agent/protocol/launch.ts";
import type { ProblemCode } from "../host-agent/protocol/problem.ts";
import type { Source } from "../host-agent/protocol/run.ts";
import type { Context } from "./route.ts";
import { PipelineLaunch, ScriptLaunch } from "./schemas.ts";

interface LaunchKind {
  /** As in "Launch a recipe". */
  noun: string;
  body: typeof PipelineLaunch | typeof ScriptLaunch;
  /** That of the API document. */
  example: PipelineLaunch | ScriptLaunch;
  /** The problems of naming what does not exist, or may not be launched. */
  problems: ProblemCode[];
}

/** What differs between a launch of a recipe and one of a script; a preview takes the same. */
export const LAUNCHES: Record<Source, LaunchKind> = {
  pipeline: {
    noun: "a recipe",
    body: PipelineLaunch,
    example: { recipe_id: "build_all_extra_features", args: "--limit 5000" },
    problems: ["recipe_not_found"],
  },
  script: {
    noun: "a .sh",
    body: ScriptLaunch,
    example: { path: "/home/mark/scripts/my_job.sh", args: "--mode full" },
    problems: ["path_forbidden", "script_not_found"],
  },
};

/** The launch that a request asks for. Its body must have passed the schema of this source. */
export function launchOrder(
  source: Source,
  { label, callback_url, ...spec }: PipelineLaunch | ScriptLaunch,
  { principal, requestId }: Context,
): PreviewOrder {
  const options = { label, callback_url, key_name: principal.name, request_id: requestId };
  // The schema of this source has checked the spec; the compiler cannot see that the two belong together.
  return { source, spec, ...options } as PreviewOrder;
}

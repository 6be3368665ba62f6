import { clipName } from "../host-agent/protocol/clip.ts";
import { ApiProblem } from "../host-agent/protocol/problem.ts";
import { AmbiguousJson, parseStrictJson } from "../host-agent/protocol/strict-json.ts";

/** Of a field that is nested deeper only the beginning of its path is shown. */
const MAX_DEPTH_SHOWN = 5;

/** Parses a request's body strictly. Throws `malformed_request`, which names a field that is ambiguous. */
export function parseJsonText(text: string): unknown {
  try {
    return parseStrictJson(text);
  } catch (error) {
    if (!(error instanceof AmbiguousJson))
      throw new ApiProblem("malformed_request", "body: is not valid JSON");
    const path = ["body", ...error.path.slice(0, MAX_DEPTH_SHOWN).map(clipName)].join(".");
    const message = error.fault;
    throw new ApiProblem("malformed_request", `${path}: ${message}`, { errors: [{ path, message }] });
  }
}

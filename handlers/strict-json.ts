import { clipName } from "../host-agent/protocol/clip.ts";
import { ApiProblem } from "../host-agent/protocol/problem.ts";

/**
 * Parses JSON that has the same meaning for every reader (RFC 7493, I-JSON, sections
 * 2.1 and 2.3). Throws `malformed_request` for text that is not JSON; for half of a
 * surrogate pair, which would reach a command or a file name as U+FFFD; and for a
 * duplicate field, of which some readers take the first and some the last. The
 * latter two name the field.
 */
export function parseStrictJson(text: string): unknown {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ApiProblem("malformed_request", "body: is not valid JSON");
  }
  refuseAmbiguity(text);
  return json;
}

const HALF_CHARACTER = "must be well-formed Unicode, without half of a surrogate pair";
/** A string, or a character of the structure; numbers and words between them are skipped. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],]/gs;

/** An object or array that has begun, and the position in it. */
interface Container {
  /** The names so far; undefined in an array. */
  names: Set<string> | undefined;
  /** The name of the value that follows; undefined when a name follows. */
  name: string | undefined;
  index: number;
}

/** Not recursive: a body may be nested as deeply as it is long. */
function refuseAmbiguity(validJson: string): void {
  const open: Container[] = [];
  for (const [token] of validJson.matchAll(TOKEN)) {
    const here = open.at(-1);
    if (token === "{") open.push({ names: new Set(), name: undefined, index: 0 });
    else if (token === "[") open.push({ names: undefined, name: undefined, index: 0 });
    else if (token === "}" || token === "]") open.pop();
    else if (token === ",") {
      here!.name = undefined;
      here!.index += 1;
    } else {
      const string = readString(token);
      const isName = here?.names !== undefined && here.name === undefined;
      if (isName) here.name = string;
      if (!string.isWellFormed()) {
        throw malformed(open, isName ? `the name of a field ${HALF_CHARACTER}` : HALF_CHARACTER);
      }
      if (!isName) continue;
      if (here.names!.has(string)) throw malformed(open, "is given more than once");
      here.names!.add(string);
    }
  }
}

function readString(token: string): string {
  return token.includes("\\") ? (JSON.parse(token) as string) : token.slice(1, -1);
}

/** Of a field that is nested deeper only the beginning of its path is shown. */
const MAX_DEPTH_SHOWN = 5;

function malformed(open: readonly Container[], message: string): ApiProblem {
  const names = open
    .slice(0, MAX_DEPTH_SHOWN)
    .map(({ names: ofObject, name, index }) => (ofObject ? clipName(name ?? "") : String(index)));
  const path = ["body", ...names].join(".");
  return new ApiProblem("malformed_request", `${path}: ${message}`, { errors: [{ path, message }] });
}

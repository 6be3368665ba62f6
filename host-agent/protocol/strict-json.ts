/** JSON that two readers may understand differently: where, by names and positions, and what is wrong there. */
export class AmbiguousJson extends Error {
  override readonly name = "AmbiguousJson";
  readonly path: readonly string[];
  readonly fault: string;

  constructor(path: readonly string[], fault: string) {
    super([path.join("."), fault].filter((part) => part !== "").join(": "));
    this.path = path;
    this.fault = fault;
  }
}

/**
 * Parses JSON that has the same meaning for every reader (RFC 7493, I-JSON, sections
 * 2.1 and 2.3). Throws SyntaxError for text that is not JSON, and AmbiguousJson for half of a
 * surrogate pair, which would reach a command or a file name as U+FFFD, and for a
 * duplicate field, of which some readers take the first and some the last.
 */
export function parseStrictJson(text: string): unknown {
  const json: unknown = JSON.parse(text);
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
        throw ambiguous(open, isName ? `the name of a field ${HALF_CHARACTER}` : HALF_CHARACTER);
      }
      if (!isName) continue;
      if (here.names!.has(string)) throw ambiguous(open, "is given more than once");
      here.names!.add(string);
    }
  }
}

function readString(token: string): string {
  return token.includes("\\") ? (JSON.parse(token) as string) : token.slice(1, -1);
}

function ambiguous(open: readonly Container[], fault: string): AmbiguousJson {
  const path = open.map(({ names, name, index }) => (names ? (name ?? "") : String(index)));
  return new AmbiguousJson(path, fault);
}

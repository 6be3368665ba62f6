/** A media type or range, in lower case, and its parameters by their lower-case names. */
export interface MediaType {
  type: string;
  parameters: ReadonlyMap<string, string>;
}

const TOKEN = String.raw`[!#$%&'*+.^_\x60|~\w-]+`;
const VALUE = String.raw`${TOKEN}|"(?:[^"\\]|\\.)*"`;
/** Empty parameters are allowed, as in a trailing semicolon (RFC 9110, 5.6.6). */
const MEDIA_TYPE = new RegExp(
  String.raw`^[ \t]*(?<type>${TOKEN}/${TOKEN})(?<rest>(?:[ \t]*;(?:[ \t]*${TOKEN}=(?:${VALUE}))?)*)[ \t]*$`,
  "s",
);
const PARAMETER = new RegExp(String.raw`(?<name>${TOKEN})=(?<value>${VALUE})`, "gs");
/** One member of a list: commas inside quotes do not end it. */
const MEMBER = /(?:"(?:[^"\\]|\\.)*"|[^,])+/gs;
/** A longer header says nothing. */
const MAX_LENGTH = 4_000;

/** Parses a media type (RFC 9110, 8.3.1) or a media range; undefined when it is none. */
export function parseMediaType(text: string): MediaType | undefined {
  const { type, rest } = (text.length <= MAX_LENGTH && MEDIA_TYPE.exec(text)?.groups) || {};
  if (type === undefined) return undefined;
  const parameters = [...rest!.matchAll(PARAMETER)].map(({ groups }): [string, string] => [
    groups!["name"]!.toLowerCase(),
    unquote(groups!["value"]!),
  ]);
  return { type: type.toLowerCase(), parameters: new Map(parameters) };
}

function unquote(value: string): string {
  return value.startsWith('"') ? value.slice(1, -1).replaceAll(/\\(.)/gs, "$1") : value;
}

/**
 * How much a client that sends this Accept header wants a media type, from 0 to 1 (RFC 9110, 12.5.1): the
 * quality of the most specific range that matches. A malformed member counts as not sent.
 */
export function qualityOf(accept: string, type: string): number {
  const ranges = [type, `${type.split("/", 1)[0]}/*`, "*/*"];
  let best = { rank: ranges.length, quality: 0 };
  if (accept.length > MAX_LENGTH) return 0;
  for (const [member] of accept.matchAll(MEMBER)) {
    const range = parseMediaType(member);
    const rank = range ? ranges.indexOf(range.type) : -1;
    const quality = parseQuality(range?.parameters.get("q") ?? "1");
    if (rank < 0 || rank > best.rank || quality === undefined) continue;
    if (rank < best.rank || quality > best.quality) best = { rank, quality };
  }
  return best.quality;
}

function parseQuality(text: string): number | undefined {
  return /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(text) ? Number(text) : undefined;
}

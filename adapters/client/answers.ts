import { HubError } from "./hub-error.ts";

/** Statuses after which the same request may succeed later. */
const TRANSIENT_STATUS = new Set([408, 429, 502, 503, 504]);

/** The failure that an answer other than 2xx reports: the Hub's problem (RFC 9457), or `not-a-hub`. */
export async function failureOf(response: Response): Promise<HubError> {
  const { status, headers } = response;
  const problem = parseJson(await response.text());
  const { code, detail, size, errors } = (isObject(problem) ? problem : {}) as Record<string, unknown>;
  const isOurs = typeof code === "string";
  const message = isOurs && typeof detail === "string" ? detail : describeAnswer(response);
  return new HubError(message, {
    kind: isOurs ? "refused" : "not-a-hub",
    status,
    code: isOurs ? code : undefined,
    size: typeof size === "number" ? size : undefined,
    errors: Array.isArray(errors) ? errors : undefined,
    retryAfterSeconds: readRetryAfter(headers.get("retry-after")),
    transient: TRANSIENT_STATUS.has(status),
    headers,
  });
}

/** The object in a JSON answer, when it has at least `fields`. Throws a HubError of kind `not-a-hub` otherwise. */
export function readObject<T>(response: Response, text: string, fields: readonly (keyof T & string)[]): T {
  const value = parseJson(text);
  if (!isObject(value)) {
    throw notAHub(
      response,
      `${describeAnswer(response)}, which is not a JSON object. Check the Hub's address`,
    );
  }
  const missing = fields.filter((field) => !Object.hasOwn(value, field));
  if (missing.length > 0) {
    const what = `${describeAnswer(response)} without ${missing.join(", ")}`;
    throw notAHub(response, `${what}: the server is not a Hub, or an older version`);
  }
  return value as T;
}

/** A whole number in a header of an answer; undefined when it is missing or not one. */
export function numberHeader({ headers }: Response, name: string): number | undefined {
  const text = headers.get(name);
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** An answer that is not as the Hub's. */
export function notAHub({ status, headers }: Response, message: string): HubError {
  return new HubError(message, { kind: "not-a-hub", status, headers });
}

/** `https://hub.example.com/healthz answered 502 with text/html`. */
export function describeAnswer({ url, status, headers }: Response): string {
  const type = headers.get("content-type")?.split(";", 1)[0] ?? "no content type";
  return `${url.split("?", 1)[0]} answered ${status} with ${type}`;
}

/** Retry-After in seconds: a number or a date (RFC 9110, 10.2.3). */
function readRetryAfter(value: string | null): number | undefined {
  if (value === null) return undefined;
  const seconds = /^\d{1,9}$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/** Every failure that a caller can receive, with its status and title. */
export const PROBLEMS = {
  malformed_request: { status: 400, title: "The request is malformed" },
  unauthenticated: { status: 401, title: "A valid API key is needed" },
  insufficient_scope: { status: 403, title: "The API key does not have the scope" },
  local_only: { status: 403, title: "A Hub without API keys serves only its own machine" },
  path_forbidden: { status: 403, title: "The path is not open to this API" },
  route_not_found: { status: 404, title: "There is no such route" },
  recipe_not_found: { status: 404, title: "There is no such recipe" },
  run_not_found: { status: 404, title: "There is no such run" },
  script_not_found: { status: 404, title: "There is no such script" },
  method_not_allowed: { status: 405, title: "The method is not allowed here" },
  request_timeout: { status: 408, title: "The request took too long" },
  run_ended: { status: 409, title: "The run has ended by itself" },
  log_gone: { status: 410, title: "The log is gone" },
  body_too_large: { status: 413, title: "The request body is too large" },
  script_too_large: { status: 413, title: "The script is too large to show" },
  unsupported_media_type: { status: 415, title: "The request body must be JSON" },
  offset_beyond_end: { status: 416, title: "The offset is beyond the end of the log" },
  invalid_request: { status: 422, title: "A field is invalid" },
  idempotency_key_reused: { status: 422, title: "The Idempotency-Key belongs to another request" },
  launch_failed: { status: 422, title: "The command could not be started" },
  terminal_unavailable: { status: 422, title: "Terminal mode is not available on this host" },
  rate_limited: { status: 429, title: "Too many requests" },
  too_many_runs: { status: 429, title: "Too many runs are running" },
  headers_too_large: { status: 431, title: "The request headers are too large" },
  internal: { status: 500, title: "Something went wrong on our side" },
  agent_error: { status: 502, title: "The host gave no usable answer" },
  agent_unavailable: { status: 503, title: "The host cannot be reached" },
  host_unavailable: { status: 503, title: "The host is short of something now" },
  keys_unavailable: { status: 503, title: "The API keys cannot be read" },
  agent_timeout: { status: 504, title: "The host took too long to answer" },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof PROBLEMS;

/** True for one of our codes; own keys only, so `constructor` is not one. */
export function isProblemCode(code: unknown): code is ProblemCode {
  return typeof code === "string" && Object.hasOwn(PROBLEMS, code);
}

/** One invalid part of a request: where and what is wrong. The agent names the field (`args`), the edge adds its place (`body.args`, `query.limit`). */
export interface FieldError {
  path: string;
  message: string;
}

/** What a problem may have in addition to its code and detail. */
export interface ProblemExtras {
  errors?: FieldError[];
  /** The log's size in bytes, with `offset_beyond_end`. */
  size?: number;
  retryAfterSeconds?: number;
  /** Further response headers, such as `Allow`. */
  headers?: Record<string, string>;
  cause?: unknown;
}

/** At most this many errors of one request are shown. */
const MAX_ERRORS = 20;
const MAX_PATH_CHARS = 300;
const MAX_MESSAGE_CHARS = 1_000;
const MAX_DETAIL_CHARS = 8_192;

/**
 * A failure whose code and detail are safe to show to the caller as they are
 * (RFC 9457). `detail` says what was wrong and what to do next. Detail and errors
 * are bounded here, in count and length: an answer does not grow with the request.
 */
export class ApiProblem extends Error {
  override readonly name = "ApiProblem";
  readonly code: ProblemCode;
  readonly extras: ProblemExtras;

  constructor(code: ProblemCode, detail: string, extras: ProblemExtras = {}) {
    super(clip(detail, MAX_DETAIL_CHARS), { cause: extras.cause });
    this.code = code;
    this.extras = extras.errors ? { ...extras, errors: clipErrors(extras.errors) } : extras;
  }

  get status(): number {
    return PROBLEMS[this.code].status;
  }
}

/** A problem about one field. */
export function invalidField(path: string, message: string): ApiProblem {
  return invalidFields([{ path, message }]);
}

/** One `invalid_request` about all these fields; at most 20 of them are shown. */
export function invalidFields(errors: readonly FieldError[]): ApiProblem {
  const shown = clipErrors(errors);
  return new ApiProblem("invalid_request", describeErrors(shown), { errors: shown });
}

/** All the errors in one line, as the detail of a problem. */
export function describeErrors(errors: readonly FieldError[]): string {
  return errors.map(({ path, message }) => `${path}: ${message}`).join("; ");
}

function clipErrors(errors: readonly FieldError[]): FieldError[] {
  return errors.slice(0, MAX_ERRORS).map(({ path, message }) => ({
    path: clip(path, MAX_PATH_CHARS),
    message: clip(message, MAX_MESSAGE_CHARS),
  }));
}

/** Never ends in half of a surrogate pair. */
function clip(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length).toWellFormed()}...`;
}

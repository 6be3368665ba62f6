import type { FieldError, ProblemCode } from "../host-agent/protocol/problem.ts";

const PIPELINE_RUN = {
  run_id: "run_a1b2c3d4e5f6",
  source: "pipeline",
  spec: { recipe_id: "build_all_extra_features", args: "--limit 5000" },
  pid: "3505615",
  log_path: "/home/mark/serveraihub/eval/halueval30k/logs/build_all_extra_features__20260515_104444.log",
  cmd: "python build_all_extra_features.py --limit 5000",
  started_at: 1_778_856_284,
  ended_at: null,
  status: "running",
  status_reason: "The process is alive.",
  exit_code: null,
  signal: null,
  spec_sha256: null,
  label: null,
  key_name: "acme-prod",
};
const SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const SCRIPT_RUN = {
  ...PIPELINE_RUN,
  run_id: "run_0d1e2f3a4b5c",
  source: "script",
  spec: { path: "/home/mark/scripts/my_job.sh", args: "--mode full" },
  pid: "3505702",
  log_path: "/home/mark/.local/state/serveraihub/logs/my_job__20260515_104512.log",
  cmd: "/home/mark/scripts/my_job.sh --mode full",
  started_at: 1_778_856_312,
  spec_sha256: SHA256,
};
const COMPLETED = {
  ended_at: 1_778_856_402,
  status: "completed",
  status_reason: "The command exited with code 0.",
  exit_code: 0,
};
const KILLED = { status: "killed", status_reason: "/kill by acme-prod sent SIGTERM." };
const LOG_PAGE = { offset: 4096, size: 8192, chunk: "started at 10:44:44\n...", more: true };
const PREVIEW = {
  dry_run: true,
  source: "pipeline",
  would_start: true,
  reason: null,
  code: null,
  argv: ["/usr/bin/python3", "build_all_extra_features.py", "--limit", "5000"],
  cmd: "python build_all_extra_features.py --limit 5000",
  cwd: "/home/mark/serveraihub/eval",
  log_path_pattern:
    "/home/mark/serveraihub/eval/halueval30k/logs/build_all_extra_features__YYYYMMDD_HHMMSS.log",
  environment: ["HOME", "HUB_RUN_ID", "LANG", "PATH"],
  terminal: false,
  spec_sha256: null,
  limits: { timeout_seconds: 3_600, max_running: 8, running: 1, host_max_running: 64, host_running: 3 },
};

/** An answer of each operation, by its operationId: those of the API document, and others of the same kind. */
export const ANSWER_EXAMPLES: Record<string, object> = {
  listRecipes: {
    recipes: [
      {
        recipe_id: "build_all_extra_features",
        title: "Build all extra features",
        description: "Computes lexical features of question/answer records.",
        terminal: false,
        timeout_seconds: 3_600,
        max_running: 8,
        args_help: "--limit N  stop after N records; default: all",
        params: [
          {
            name: "limit",
            flag: "--limit",
            type: "integer",
            required: false,
            description: "Stop after this number of records; default: all.",
            minimum: 1,
          },
        ],
      },
    ],
  },
  launchPipeline: PIPELINE_RUN,
  previewPipeline: PREVIEW,
  listPipelineRuns: { runs: [{ ...PIPELINE_RUN, ...COMPLETED }], next_cursor: null },
  getPipelineRun: { ...PIPELINE_RUN, ...COMPLETED },
  readPipelineLog: { run_id: PIPELINE_RUN.run_id, ...LOG_PAGE },
  killPipelineRun: { ...PIPELINE_RUN, ...KILLED },
  listScripts: {
    scripts: [
      { path: "/home/mark/scripts/my_job.sh", name: "my_job.sh", size: 412, modified_at: 1_778_770_000 },
    ],
    truncated: false,
  },
  readScript: {
    path: "/home/mark/scripts/my_job.sh",
    content: '#!/bin/bash\necho "started at $(date +%T)"\n',
    size: 42,
  },
  launchScript: SCRIPT_RUN,
  previewScript: {
    ...PREVIEW,
    source: "script",
    argv: ["/home/mark/scripts/my_job.sh", "--mode", "full"],
    cmd: SCRIPT_RUN.cmd,
    cwd: "/home/mark/scripts",
    log_path_pattern: "/home/mark/.local/state/serveraihub/logs/my_job__YYYYMMDD_HHMMSS.log",
    spec_sha256: SHA256,
    limits: { ...PREVIEW.limits, timeout_seconds: null, max_running: null, running: null },
  },
  listScriptRuns: { runs: [SCRIPT_RUN], next_cursor: "1041" },
  getScriptRun: { ...SCRIPT_RUN, ...COMPLETED },
  readScriptLog: { run_id: SCRIPT_RUN.run_id, ...LOG_PAGE },
  killScriptRun: { ...SCRIPT_RUN, ...KILLED },
  health: { status: "ok", mode: "enforced", agent: "ok", problems: [] },
};

/** What differs between the problems: the words for one case, and where it happens. */
interface ProblemExample {
  detail: string;
  instance: string;
  errors?: FieldError[];
  size?: number;
}

const RUNS = "/api/v1/pipelines/runs";
const RUN = `${RUNS}/run_a1b2c3d4e5f6`;
const CONTENT = "/api/v1/scripts/content";

/** The problem of a single field, as the Hub words it. */
function field(path: string, message: string, instance = RUNS): ProblemExample {
  return { detail: `${path}: ${message}`, instance, errors: [{ path, message }] };
}

/** A case of each problem, in the words that the Hub answers. */
export const PROBLEM_EXAMPLES: Record<ProblemCode, ProblemExample> = {
  malformed_request: { detail: "body: is not valid JSON", instance: RUNS },
  unauthenticated: {
    detail: "Send your API key in the header `Authorization: Bearer <key>`",
    instance: RUNS,
  },
  insufficient_scope: {
    detail:
      "The API key acme-prod does not have the scope pipelines:write. Ask the operator for a key that has it",
    instance: RUNS,
  },
  local_only: {
    detail:
      "header.host: must be localhost or a loopback address. A Hub without API keys serves only its own machine. Create a key, or set HUB_ALLOW_OPEN=1",
    instance: RUNS,
  },
  path_forbidden: {
    detail: "path: only .sh files inside the script roots are allowed; GET /api/v1/scripts lists them",
    instance: CONTENT,
  },
  route_not_found: {
    detail: "This route does not exist. /openapi.json lists all routes; /docs shows them in a browser",
    instance: "/api/v1/pipelines/run",
  },
  recipe_not_found: {
    detail: "recipe_id: there is no recipe nightly; GET /api/v1/pipelines/recipes lists them",
    instance: RUNS,
  },
  run_not_found: {
    detail: "run_id: there is no pipeline run run_a1b2c3d4e5f6; GET /api/v1/pipelines/runs lists them",
    instance: RUN,
  },
  script_not_found: { detail: "path: no script exists at this path", instance: CONTENT },
  method_not_allowed: { detail: "DELETE is not allowed here. Allowed: GET, HEAD", instance: RUN },
  request_timeout: { detail: "body: did not arrive within 10 seconds", instance: RUNS },
  run_ended: {
    detail: "run_a1b2c3d4e5f6 has already ended by itself: it is completed",
    instance: `${RUN}/kill`,
  },
  log_gone: {
    detail: "The log no longer exists: it was moved, removed or replaced on the host",
    instance: `${RUN}/logs`,
  },
  body_too_large: { detail: "body: must be at most 65536 bytes", instance: RUNS },
  script_too_large: {
    detail: "path: the script has 2097152 bytes; at most 1048576 are shown",
    instance: CONTENT,
  },
  unsupported_media_type: {
    detail: 'header.content-type: must be application/json, but it is "text/plain"',
    instance: RUNS,
  },
  offset_beyond_end: {
    detail: "after: 9000 is beyond the log's 8192 bytes",
    instance: `${RUN}/logs`,
    size: 8_192,
  },
  invalid_request: field("query.limit", "must be a whole number from 1 to 500"),
  idempotency_key_reused: {
    detail:
      "The Idempotency-Key was used within the last hour for another request, which started run_a1b2c3d4e5f6; use a new key",
    instance: RUNS,
  },
  launch_failed: {
    detail: 'Cannot start it: program "evaluate" was not found or is not executable',
    instance: RUNS,
  },
  terminal_unavailable: {
    detail:
      "Terminal mode needs the optional package node-pty on the host: install a C++ compiler, make and python3, then run npm ci",
    instance: RUNS,
  },
  rate_limited: { detail: "Too many requests with the API key acme-prod. Retry later", instance: RUNS },
  too_many_runs: {
    detail: "Recipe build_all_extra_features is at its limit of 8 concurrent runs; try again later",
    instance: RUNS,
  },
  headers_too_large: { detail: "header: all headers together must be at most 16 KB", instance: "/" },
  internal: {
    detail: "Something went wrong on our side. Send the request_id to the operator",
    instance: RUNS,
  },
  agent_error: {
    detail: "The host gave no usable answer. The operator finds the cause in the log",
    instance: RUNS,
  },
  agent_unavailable: {
    detail: "The host cannot be reached. Its runs continue. Try again",
    instance: RUNS,
  },
  host_unavailable: {
    detail: "The host cannot write its state now. Try again",
    instance: RUNS,
  },
  keys_unavailable: {
    detail:
      "The API keys cannot be read, so every request is refused. The operator finds the cause in the log",
    instance: RUNS,
  },
  agent_timeout: {
    detail: "The host did not answer in time. Its runs continue. Try again",
    instance: RUNS,
  },
};

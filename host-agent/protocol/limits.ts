// What the schemas and the clients agree on; without zod, so that the command line starts and the console loads without it.

export const RUN_ID = /^run_[0-9a-f]{12}$/;

export const SOURCES = ["pipeline", "script"] as const;
export const STATUSES = ["running", "completed", "failed", "killed", "unknown"] as const;
export const SIGNALS = ["SIGTERM", "SIGINT", "SIGKILL"] as const;

export const MAX_GRACE_SECONDS = 3_600;
export const MAX_LIST_LIMIT = 500;
export const MAX_LOG_PAGE_BYTES = 1_048_576;

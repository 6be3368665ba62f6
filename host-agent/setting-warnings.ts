import { distance } from "fastest-levenshtein";

import type { Env } from "./config.ts";
import { statsOf } from "./system/file-version.ts";

/** All settings that the programs of the Hub read from their environment. */
const SETTINGS = [
  "HUB_AGENT_ALLOW_HTTP",
  "HUB_AGENT_KEY",
  "HUB_AGENT_LISTEN",
  "HUB_AGENT_NAME",
  "HUB_AGENT_TRUST",
  "HUB_AGENT_URL",
  "HUB_ALLOW_OPEN",
  "HUB_AUDIT_FILE",
  "HUB_CALLBACK_HOSTS",
  "HUB_CALLBACK_SECRET",
  "HUB_CGROUP",
  "HUB_CPU_MAX",
  "HUB_FAILED_AUTH_PER_MINUTE",
  "HUB_HOST",
  "HUB_HOSTS",
  "HUB_KEEP_RUNS_DAYS",
  "HUB_KEY",
  "HUB_KEYS_FILE",
  "HUB_KILL_LEFT_BEHIND",
  "HUB_KV",
  "HUB_LOG_LIMIT_ACTION",
  "HUB_MAX_LOGS_BYTES",
  "HUB_MAX_LOG_BYTES",
  "HUB_MAX_RUNNING",
  "HUB_MEMORY_MAX",
  "HUB_PATH",
  "HUB_PIDS_MAX",
  "HUB_PORT",
  "HUB_RATE_PER_KEY",
  "HUB_RECIPES_FILE",
  "HUB_RUN_AS",
  "HUB_RUN_ID",
  "HUB_SCRIPT_ROOTS",
  "HUB_STATE_DIR",
  "HUB_TRUSTED_PROXIES",
  "HUB_URL",
  "HUB_WRAPPER",
];

const GROUP_AND_OTHERS = 0o077;

/**
 * Settings that do not prevent a start but are probably mistakes, a sentence each:
 * unknown names, script roots that do not exist or are `/`, and
 * `secretFiles`, by the setting that names them, that other users may open.
 */
export function settingWarnings(env: Env, secretFiles: Readonly<Record<string, string>>): string[] {
  const unknown = Object.keys(env).filter((name) => name.startsWith("HUB_") && !SETTINGS.includes(name));
  const roots = (env["HUB_SCRIPT_ROOTS"] ?? "").split(":").filter((root) => root !== "");
  const files = Object.entries(secretFiles);
  return [
    ...unknown.map((name) => `${name} is not a setting${suggestion(name)}`),
    ...roots
      .filter((root) => statsOf(root) === undefined)
      .map((root) => `HUB_SCRIPT_ROOTS: ${root} does not exist; nothing in it can be launched`),
    ...roots
      .filter((root) => /^\/+$/.test(root))
      .map((root) => `HUB_SCRIPT_ROOTS: ${root} lets every script of this host be launched`),
    ...files
      .filter(([, path]) => isOpen(path))
      .map(([name, path]) => `${name}: ${path} is open to other users; close it with chmod 600`),
  ];
}

function isOpen(path: string): boolean {
  const stats = statsOf(path);
  return stats !== undefined && (stats.mode & GROUP_AND_OTHERS) !== 0;
}

function suggestion(name: string): string {
  const close = SETTINGS.find((setting) => distance(name, setting) <= 2);
  return close === undefined ? "" : `; did you mean ${close}?`;
}

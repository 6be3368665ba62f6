import type { WrapperChoice } from "./executor/helper.ts";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import * as z from "zod";

import { type CallbackHost, parseCallbackHost } from "./callbacks/callback-rules.ts";
import type { LeftOut } from "./catalogue/left-out.ts";
import type { RunLimits } from "./executor/cgroup-limits.ts";
import { CpuCount, MemorySize, PidCount } from "./protocol/resources.ts";
import { ConfigError } from "./system/config-error.ts";
import { statsOf } from "./system/file-version.ts";
import { ownHome } from "./system/own-user.ts";
import type { ListenAddress } from "./system/http-listener.ts";
import { passedSockets } from "./system/passed-sockets.ts";

/** A whole number written in digits. */
export const Digits = z
  .string()
  .regex(/^\d{1,9}$/, "must be a whole number, 0 or more")
  .transform(Number);

/** The catalogue of the samples. */
export const SHIPPED_RECIPES = fileURLToPath(new URL("recipes/recipes.json", import.meta.url));

const AgentEnv = z.object({
  HUB_STATE_DIR: z.string().min(1, "must not be empty").optional(),
  HUB_SCRIPT_ROOTS: z.string().optional(),
  HUB_RECIPES_FILE: z.string().min(1, "must not be empty").optional(),
  HUB_MAX_RUNNING: Digits.pipe(z.int().min(1, "must be at least 1")).default(64),
  HUB_MAX_LOG_BYTES: z
    .string()
    .regex(/^\d{1,15}$/, "must be a whole number of bytes")
    .transform(Number)
    .refine((bytes) => bytes === 0 || bytes >= 1_024, "must be 0, for no limit, or at least 1024")
    .default(1_073_741_824),
  HUB_MAX_LOGS_BYTES: z
    .string()
    .regex(/^\d{1,15}$/, "must be a whole number of bytes")
    .transform(Number)
    .refine((bytes) => bytes === 0 || bytes >= 1_048_576, "must be 0, for no limit, or at least 1048576")
    .optional(),
  HUB_WRAPPER: z.enum(["auto", "sh", "helper"], "must be auto, sh or helper").default("auto"),
  HUB_LOG_LIMIT_ACTION: z.enum(["truncate", "stop"], "must be truncate or stop").default("truncate"),
  HUB_KEEP_RUNS_DAYS: Digits.pipe(z.int().max(36_500, "must be at most 36500")).default(30),
  HUB_RUN_AS: z
    .string()
    .regex(/^[\w.-]+(?::[\w.-]+)?$/, "must be user or user:group")
    .optional(),
  HUB_PATH: z
    .string()
    .regex(/^(?:\/[^:\0]*)(?::\/[^:\0]*)*$/, "must be absolute folders, separated by colons")
    .optional(),
  HUB_CGROUP: z
    .string()
    .regex(
      /^(?:auto|off|\/.+)$/,
      "must be auto, off or the absolute path of a folder in a cgroup2 file system",
    )
    .default("auto"),
  HUB_MEMORY_MAX: MemorySize.optional(),
  HUB_CPU_MAX: z
    .string()
    .regex(/^\d{1,4}(?:\.\d{1,3})?$/, "must be a number of cores, such as 2 or 0.5")
    .transform(Number)
    .pipe(CpuCount)
    .optional(),
  HUB_PIDS_MAX: Digits.pipe(PidCount).optional(),
  HUB_KILL_LEFT_BEHIND: z.enum(["0", "1"], "must be 0 or 1").default("0"),
  HUB_AUDIT_FILE: z.string().min(1, "must not be empty").optional(),
  HUB_CALLBACK_HOSTS: z
    .string()
    .default("")
    .transform((value, context) => {
      const entries = value.split(",").map((entry) => entry.trim());
      const hosts = entries.filter((entry) => entry !== "").map(parseCallbackHost);
      if (hosts.includes(undefined)) {
        context.addIssue({
          code: "custom",
          message:
            "must be hosts like hooks.example.com, hooks.example.com:8443 or http://127.0.0.1:9000, separated by commas",
        });
      }
      return hosts.filter((host) => host !== undefined);
    }),
  XDG_STATE_HOME: z.string().optional(),
});

/** Where the agent keeps its state, and what it may run. All paths are absolute. */
export interface AgentConfig {
  stateDir: string;
  scriptRoots: string[];
  /** What is not launched although it is in a root. The default roots are a home, which holds more than scripts. */
  leftOut?: LeftOut | undefined;
  recipesFile: string;
  maxRunning: number;
  /** The limit of a log in bytes; undefined for no limit. */
  maxLogBytes?: number | undefined;
  /** What happens to a run whose log is over the limit: it continues, or is stopped. */
  logLimitAction?: LogLimitAction;
  /** Which wrapper runs start under. */
  wrapper?: WrapperChoice;
  /** Ended runs are kept for this number of days; undefined for no limit. */
  keepRunsDays?: number | undefined;
  /** The logs of ended runs may be this many bytes together; undefined for no limit. */
  maxLogsBytes?: number | undefined;
  /** `user` or `user:group` that runs are started as; undefined for the agent's own. */
  runAs?: string | undefined;
  /** Where each run gets a cgroup: `auto`, `off`, or the path of a folder; undefined for `off`. */
  cgroup?: string;
  /** What each run may use at most, unless its recipe says it. */
  limits?: RunLimits;
  /** Processes that are alive after the end of their run are killed, unless its recipe says otherwise. */
  killLeftBehind?: boolean;
  /** Where changes are recorded; undefined for audit.log in the state folder. */
  auditFile?: string | undefined;
  /** Receivers of the ends of runs, and the secrets that sign for them; without one nothing is sent. */
  callbacks: { hosts: CallbackHost[]; secrets: string[] };
}

export type LogLimitAction = "truncate" | "stop";

/** The settings of a separate agent, with its door. */
export interface DoorConfig {
  agent: AgentConfig;
  /** The tag that requests must be signed with. */
  name: string;
  listen: ListenAddress;
  trustFile: string;
}

export type Env = Readonly<Record<string, string | undefined>>;

/** Reads the agent's settings. Throws ConfigError. */
export function readAgentConfig(env: Env): AgentConfig {
  const values = parseEnv(AgentEnv, env);
  const home = homeOf(env);
  const stateHome = values.XDG_STATE_HOME || join(home, ".local", "state");
  const stateDir = resolve(values.HUB_STATE_DIR ?? join(stateHome, "serveraihub"));
  const roots = values.HUB_SCRIPT_ROOTS ?? defaultRoots(home);
  const scriptRoots = roots.split(":").filter((root) => root !== "");
  const relative = scriptRoots.find((root) => !root.startsWith("/"));
  if (relative !== undefined) {
    throw new ConfigError(`HUB_SCRIPT_ROOTS: ${JSON.stringify(relative)} must be an absolute path`);
  }
  const file = scriptRoots.find((root) => statsOf(root)?.isFile());
  if (file !== undefined) {
    throw new ConfigError(`HUB_SCRIPT_ROOTS: ${JSON.stringify(file)} is a file; name the folder it is in`);
  }
  return {
    stateDir,
    scriptRoots,
    leftOut:
      values.HUB_SCRIPT_ROOTS === undefined
        ? { hidden: true, paths: [stateDir, configFolder(env)] }
        : undefined,
    recipesFile: resolve(values.HUB_RECIPES_FILE ?? SHIPPED_RECIPES),
    maxRunning: values.HUB_MAX_RUNNING,
    maxLogBytes: values.HUB_MAX_LOG_BYTES || undefined,
    logLimitAction: values.HUB_LOG_LIMIT_ACTION,
    wrapper: values.HUB_WRAPPER,
    keepRunsDays: values.HUB_KEEP_RUNS_DAYS || undefined,
    maxLogsBytes: values.HUB_MAX_LOGS_BYTES || undefined,
    runAs: values.HUB_RUN_AS,
    cgroup: values.HUB_CGROUP,
    limits: {
      memoryMax: values.HUB_MEMORY_MAX,
      cpuMax: values.HUB_CPU_MAX,
      pidsMax: values.HUB_PIDS_MAX,
    },
    killLeftBehind: values.HUB_KILL_LEFT_BEHIND === "1",
    auditFile: values.HUB_AUDIT_FILE === undefined ? undefined : resolve(values.HUB_AUDIT_FILE),
    callbacks: {
      hosts: values.HUB_CALLBACK_HOSTS,
      secrets: readCallbackSecrets(env, values.HUB_CALLBACK_HOSTS),
    },
  };
}

function homeOf(env: Env): string {
  return env["HOME"] || ownHome();
}

/** None for a user whose home is `/`, as it is in a container for a user without an entry in passwd: every script of the host would be in it. */
function defaultRoots(home: string): string {
  return resolve(home) === "/" ? "" : `${home}:${join(home, "serveraihub", "scripts")}`;
}

/** The folder in which this user's own configuration of the Hub is. */
export function configFolder(env: Env): string {
  return resolve(env["XDG_CONFIG_HOME"] || join(homeOf(env), ".config"), "serveraihub");
}

/** 24 to 64 bytes in base64, as in Standard Webhooks. No error message contains any of it. */
const CALLBACK_SECRET = /^whsec_(?=(?:[A-Za-z\d+/]{4})*(?:[A-Za-z\d+/]{2}==|[A-Za-z\d+/]{3}=)?$).{32,88}$/;

/** Receivers check a signature with the secret that they have: with two, the old one works until all have the new one. */
const MAX_CALLBACK_SECRETS = 4;

function readCallbackSecrets(env: Env, hosts: readonly CallbackHost[]): string[] {
  const value = env["HUB_CALLBACK_SECRET"];
  if (!value) {
    if (hosts.length === 0) return [];
    throw new ConfigError(
      "HUB_CALLBACK_SECRET: must be set together with HUB_CALLBACK_HOSTS; `echo whsec_$(openssl rand -base64 32)` makes one",
    );
  }
  const secrets = value.split(",").map((secret) => secret.trim());
  if (secrets.length > MAX_CALLBACK_SECRETS) {
    throw new ConfigError(
      `HUB_CALLBACK_SECRET: must be at most ${MAX_CALLBACK_SECRETS} secrets, but it has ${secrets.length}; remove the old ones`,
    );
  }
  if (secrets.every((secret) => CALLBACK_SECRET.test(secret))) return secrets;
  throw new ConfigError(
    "HUB_CALLBACK_SECRET: must be whsec_ and 24 to 64 bytes in base64; for a change of the secret `new,old`",
  );
}

/** The agent's name: the same setting for the edge and the agent. */
export const AgentName = z
  .string()
  .regex(/^[\w.-]{1,64}$/, "must be 1-64 letters, digits, or any of _ . -")
  .default("host-agent");

const LISTEN = /^(?:unix:(?<path>\/.+)|(?<host>\[[\da-fA-F:.]+\]|[^:[\]]+):(?<port>\d{1,5}))$/;

const DoorEnv = z.object({
  HUB_AGENT_NAME: AgentName,
  HUB_AGENT_LISTEN: z
    .string()
    .regex(LISTEN, "must be host:port, [ipv6]:port or unix:/path")
    .default("127.0.0.1:8788"),
  HUB_AGENT_TRUST: z.string().min(1, "must not be empty").optional(),
});

/** Reads the settings of a separate agent. Throws ConfigError. */
export function readDoorConfig(env: Env): DoorConfig {
  const agent = readAgentConfig(env);
  const values = parseEnv(DoorEnv, env);
  const [passed, ...more] = passedSockets(env);
  if (more.length > 0)
    throw new ConfigError("LISTEN_FDS: the agent serves one socket; its .socket unit has several");
  return {
    agent,
    name: values.HUB_AGENT_NAME,
    listen: passed === undefined ? parseListen(values.HUB_AGENT_LISTEN) : { fd: passed },
    trustFile: resolve(values.HUB_AGENT_TRUST ?? join(agent.stateDir, "trusted_keys.json")),
  };
}

function parseListen(value: string): ListenAddress {
  const { path, host, port } = LISTEN.exec(value)!.groups!;
  if (path !== undefined) return { path };
  if (Number(port) > 65_535) {
    throw new ConfigError(`HUB_AGENT_LISTEN: ${JSON.stringify(value)} has no valid port`);
  }
  return { host: host!.replace(/^\[|\]$/g, ""), port: Number(port) };
}

/** Parses the environment with a schema. Throws ConfigError that names each bad variable and its value. */
export function parseEnv<S extends z.ZodType>(schema: S, env: Env): z.output<S> {
  const parsed = schema.safeParse(env);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => {
    const name = String(issue.path[0]);
    return `${name}: ${issue.message}, but it is ${JSON.stringify(env[name])}`;
  });
  throw new ConfigError(lines.join("\n"));
}

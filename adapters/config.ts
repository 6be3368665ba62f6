import { resolve } from "node:path";

import * as z from "zod";

import { type AgentConfig, type Env, parseEnv, readAgentConfig } from "../host-agent/config.ts";

const DEFAULT_KEYS_FILE = "/app/config/enterprise_keys.json";

const KeysEnv = z.object({
  HUB_KEYS_FILE: z.string().min(1, "must not be empty").default(DEFAULT_KEYS_FILE),
});

const NodeEnv = KeysEnv.extend({
  HUB_HOST: z.string().min(1, "must not be empty").default("127.0.0.1"),
  HUB_PORT: z
    .string()
    .regex(/^\d{1,5}$/, "must be a port number")
    .transform(Number)
    .pipe(z.int().max(65_535, "must be a port number"))
    .default(8787),
  HUB_KV: z
    .string()
    .regex(/^(?:memory:|sqlite:.+)$/, "must be memory: or sqlite:PATH")
    .optional(),
  HUB_ALLOW_OPEN: z.enum(["0", "1"], "must be 0 or 1").optional(),
});

/** The Node adapter's settings. All paths are absolute. */
export interface NodeConfig {
  host: string;
  port: number;
  keysFile: string;
  /** The SQLite file of the KV; undefined for one in memory. */
  kvFile: string | undefined;
  /** Dev mode may be reached from other hosts. */
  allowOpen: boolean;
  agent: AgentConfig;
}

/** Reads the Node adapter's settings. Throws ConfigError. */
export function readNodeConfig(env: Env): NodeConfig {
  const values = parseEnv(NodeEnv, env);
  const agent = readAgentConfig(env);
  const kv = values.HUB_KV ?? `sqlite:${agent.stateDir}/kv.db`;
  return {
    host: values.HUB_HOST,
    port: values.HUB_PORT,
    keysFile: readKeysFilePath(env),
    kvFile: kv === "memory:" ? undefined : resolve(kv.slice("sqlite:".length)),
    allowOpen: values.HUB_ALLOW_OPEN === "1",
    agent,
  };
}

/** Where the server looks for its keys. Throws ConfigError. */
export function readKeysFilePath(env: Env): string {
  return resolve(parseEnv(KeysEnv, env).HUB_KEYS_FILE);
}

import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";

import * as z from "zod";

import { parsePublicUrl, PUBLIC_URL_RULE } from "../../handlers/public-url.ts";
import {
  type AgentConfig,
  AgentName,
  Digits,
  type Env,
  parseEnv,
  readAgentConfig,
} from "../../host-agent/config.ts";
import { parseTrustedProxy, type TrustedProxy } from "./client-address.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { withoutByteOrderMark } from "../../host-agent/protocol/byte-order-mark.ts";
import { passedSockets } from "../../host-agent/system/passed-sockets.ts";
import { isLoopback } from "../../handlers/loopback.ts";
import { PrivateKey } from "../../host-agent/protocol/signature.ts";
import { defaultKeysFile } from "./keys-path.ts";

const DEFAULT_HOST = "127.0.0.1";

const KeysEnv = z.object({
  HUB_KEYS_FILE: z.string().min(1, "must not be empty").optional(),
});

const AddressEnv = z.object({
  HUB_HOST: z
    .string()
    .min(1, "must not be empty")
    .refine((host) => !host.startsWith("unix:") || host.startsWith("unix:/"), "must be a host or unix:/path")
    .default(DEFAULT_HOST),
  HUB_PORT: z
    .string()
    .regex(/^\d{1,5}$/, "must be a port number")
    .transform(Number)
    .pipe(z.int().max(65_535, "must be a port number"))
    .default(8787),
});

const NodeEnv = z.object({
  ...KeysEnv.shape,
  ...AddressEnv.shape,
  HUB_KV: z
    .string()
    .regex(/^(?:memory:|sqlite:.+)$/, "must be memory: or sqlite:PATH")
    .optional(),
  HUB_PUBLIC_URL: z
    .string()
    .transform(parsePublicUrl)
    .refine((url) => url !== undefined, PUBLIC_URL_RULE)
    .optional(),
  HUB_ALLOW_OPEN: z.enum(["0", "1"], "must be 0 or 1").optional(),
  HUB_HOSTS: z
    .string()
    .transform((list) => list.split(",").map((name) => name.trim().toLowerCase()))
    .refine((names) => names.every(isHostName), "must be host names without ports, comma separated")
    .optional(),
  HUB_TRUSTED_PROXIES: z
    .string()
    .transform((list, context) => {
      const parts = list.split(",").map((part) => part.trim());
      const wrong = parts.find((part) => parseTrustedProxy(part) === undefined);
      if (wrong === undefined) return parts.map((part) => parseTrustedProxy(part)!);
      context.addIssue("must be addresses, ranges such as 10.0.0.0/8 or unix, comma separated");
      return z.NEVER;
    })
    .optional(),
  HUB_AGENT_URL: z
    .string()
    .refine(isAgentUrl, "must be http://host:port, https://host:port or unix:/path")
    .optional(),
  HUB_AGENT_ALLOW_HTTP: z.enum(["0", "1"], "must be 0 or 1").optional(),
  HUB_AGENT_NAME: AgentName,
  HUB_FAILED_AUTH_PER_MINUTE: Digits.default(10),
  HUB_RATE_PER_KEY: Digits.optional(),
});

/** An agent in another process, and the name and key for its signatures. */
export interface RemoteAgentConfig {
  /** An origin, or `unix:/path`. */
  url: string;
  name: string;
  key: PrivateKey;
}

/** The settings of the Node adapter. All paths are absolute. */
export interface NodeConfig {
  /** A host, or `unix:/path`. */
  host: string;
  port: number;
  /** Also listen on ::1, so that no other program receives what is sent to `localhost`. */
  alsoOnIpv6: boolean;
  /** Descriptors of sockets that systemd has bound; with any, `host` and `port` are not used. */
  sockets: readonly number[];
  keysFile: string;
  /** The SQLite file of the KV; undefined for a KV in memory. */
  kvFile: string | undefined;
  /** The address that clients use; undefined when no proxy changes it. */
  publicUrl: string | undefined;
  /** Other hosts may reach the Hub in dev mode. */
  allowOpen: boolean;
  /** Names by which clients may address the Hub in dev mode, in lower case. */
  hosts: readonly string[];
  /** Proxies whose word about a client's address is believed. */
  trustedProxies: readonly TrustedProxy[];
  /** The most requests a minute for each key; undefined for no limit. */
  ratePerKey: number | undefined;
  /** The most requests a minute from one address without a valid key; undefined for no limit. */
  failedAuthPerMinute: number | undefined;
  /** The embedded agent. With a remote one only the state folder is used, for the KV. */
  agent: AgentConfig;
  /** Undefined when the agent is embedded. */
  remoteAgent: RemoteAgentConfig | undefined;
}

/** Reads the Node adapter's settings. Throws ConfigError. */
export function readNodeConfig(env: Env): NodeConfig {
  const values = parseEnv(NodeEnv, env);
  const keysFile = readKeysFilePath(env);
  const agent = leaveOutKeys(readAgentConfig(env), keysFile);
  refusePlainHttp(values);
  const kv = values.HUB_KV ?? `sqlite:${agent.stateDir}/kv.db`;
  return {
    host: values.HUB_HOST,
    port: values.HUB_PORT,
    alsoOnIpv6: env["HUB_HOST"] === undefined,
    sockets: passedSockets(env),
    keysFile,
    kvFile: kv === "memory:" ? undefined : resolve(kv.slice("sqlite:".length)),
    publicUrl: values.HUB_PUBLIC_URL,
    allowOpen: values.HUB_ALLOW_OPEN === "1",
    hosts: values.HUB_HOSTS ?? [],
    trustedProxies: values.HUB_TRUSTED_PROXIES ?? [],
    ratePerKey: values.HUB_RATE_PER_KEY || undefined,
    failedAuthPerMinute: values.HUB_FAILED_AUTH_PER_MINUTE || undefined,
    agent,
    remoteAgent:
      values.HUB_AGENT_URL === undefined
        ? undefined
        : {
            url: values.HUB_AGENT_URL.startsWith("unix:")
              ? values.HUB_AGENT_URL
              : new URL(values.HUB_AGENT_URL).origin,
            name: values.HUB_AGENT_NAME,
            key: readAgentKey(env["HUB_AGENT_KEY"]),
          },
  };
}

function isHostName(name: string): boolean {
  return URL.parse(`http://${name}`)?.hostname === name;
}

/** The edge signs what it sends, but nothing signs what an agent answers: over plain http anyone on the way can forge it. */
function refusePlainHttp({
  HUB_AGENT_URL: url,
  HUB_AGENT_ALLOW_HTTP: allowed,
}: Pick<z.output<typeof NodeEnv>, "HUB_AGENT_URL" | "HUB_AGENT_ALLOW_HTTP">): void {
  if (url === undefined || allowed === "1" || !/^http:/i.test(url) || isLoopback(new URL(url).hostname))
    return;
  throw new ConfigError(
    `HUB_AGENT_URL: ${url} is plain http to another host, whose answers anyone on the way can read and change. ` +
      "Use https, a unix: socket or a tunnel that ends on loopback, or set HUB_AGENT_ALLOW_HTTP=1 for a network that nobody else is in",
  );
}

/** An origin: a URL with a path, a query or a password would have no meaning here. */
function isAgentUrl(value: string): boolean {
  if (value.startsWith("unix:")) return value.startsWith("unix:/");
  const url = URL.parse(value);
  return (
    url !== null &&
    /^https?:$/.test(url.protocol) &&
    [url.origin, `${url.origin}/`].includes(value.toLowerCase())
  );
}

/** The private key in the value, or in the file that the value names. No error shows any part of it. */
function readAgentKey(value: string | undefined): PrivateKey {
  if (value === undefined || value === "") {
    throw new ConfigError(
      "HUB_AGENT_KEY: must be the private key for the agent of HUB_AGENT_URL. Create one with `npm run keys -- agent-pair`",
    );
  }
  const isInline = isInlineKey(value);
  let text: string;
  try {
    text = isInline ? value : readFileSync(value, "utf8");
  } catch (error) {
    throw new ConfigError(`HUB_AGENT_KEY: ${value} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  const source = isInline ? "its value" : value;
  let json: unknown;
  try {
    json = JSON.parse(withoutByteOrderMark(text));
  } catch {
    throw new ConfigError(
      `HUB_AGENT_KEY: ${source} is not JSON. It must be the private key as \`npm run keys -- agent-pair\` wrote it`,
    );
  }
  const parsed = PrivateKey.safeParse(json);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join(".") || "it"}: ${issue.message}`);
  throw new ConfigError(`HUB_AGENT_KEY: ${source} is not a private Ed25519 JWK: ${problems.join("; ")}`);
}

/** HUB_AGENT_KEY, if it names a file. */
export function agentKeyFile({ HUB_AGENT_KEY: value }: Env): { HUB_AGENT_KEY?: string } {
  return value === undefined || value === "" || isInlineKey(value) ? {} : { HUB_AGENT_KEY: value };
}

function isInlineKey(value: string): boolean {
  return value.trimStart().startsWith("{");
}

/** Where the server listens. Throws ConfigError. */
export function readAddress(env: Env): Pick<NodeConfig, "host" | "port"> {
  const { HUB_HOST: host, HUB_PORT: port } = parseEnv(AddressEnv, env);
  return { host, port };
}

/** The path of the server's keys file. Throws ConfigError. */
export function readKeysFilePath(env: Env): string {
  return resolve(parseEnv(KeysEnv, env).HUB_KEYS_FILE ?? defaultKeysFile(env));
}

/** The folder of the keys file is not launched from, where something is left out; a root with the file in it loses the file only. */
function leaveOutKeys(agent: AgentConfig, keysFile: string): AgentConfig {
  if (agent.leftOut === undefined) return agent;
  const folder = dirname(keysFile);
  const holdsRoot = agent.scriptRoots.some((root) =>
    `${root}/`.startsWith(folder === "/" ? "/" : `${folder}/`),
  );
  const paths = [...agent.leftOut.paths, holdsRoot ? keysFile : folder];
  return { ...agent, leftOut: { ...agent.leftOut, paths } };
}

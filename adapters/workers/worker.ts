// adapters/workers/ runs the handlers as a Cloudflare Worker. Belongs here: what Workers provide for them, such as bindings,
// secrets and KV. It may import handlers/, host-agent/protocol/ and other files that run on any platform: no node:.
import * as z from "zod";

import { agentClient } from "../../handlers/agent-client.ts";
import { type Fetch, httpTransport } from "../../handlers/agent-transport.ts";
import { createApp } from "../../handlers/app.ts";
import { isLoopback } from "../../handlers/loopback.ts";
import { rememberHealth } from "../../handlers/remember-health.ts";
import { parsePublicUrl, PUBLIC_URL_RULE } from "../../handlers/public-url.ts";
import { bindingAssets } from "./assets-workers.ts";
import { PrivateKey, requestSigner } from "../../host-agent/protocol/signature.ts";
import { type LogEntry, logLine } from "../../host-agent/system/log-line.ts";
import { dropBody } from "./drop-body.ts";
import { kvKeys } from "./keys-kv.ts";
import { workersKV } from "./kv-workers.ts";

/** The bindings, variables and secrets of wrangler.toml. */
export interface WorkerEnv {
  HUB_KV: KVNamespace;
  /** The files of the console and the API reference. */
  HUB_ASSETS?: { fetch: Fetch };
  /** A VPC service, or anything else with a fetch, that reaches the agent. */
  HUB_AGENT?: { fetch: Fetch };
  HUB_AGENT_URL?: string;
  HUB_AGENT_KEY?: string;
  HUB_AGENT_NAME?: string;
  HUB_PUBLIC_URL?: string;
  HUB_AGENT_ALLOW_HTTP?: string;
  HUB_DEV_MODE?: string;
  HUB_RATE_PER_KEY?: string;
  HUB_FAILED_AUTH_PER_MINUTE?: string;
}

/** The same as the Node adapter's, but counted separately in each isolate. */
const DEFAULT_FAILURES_PER_MINUTE = 10;

const PerMinute = z
  .string()
  .regex(/^\d{1,9}$/, "must be a whole number")
  .transform(Number);

const Variables = z.object({
  HUB_AGENT_URL: z.url({ protocol: /^https?$/ }),
  HUB_AGENT_KEY: z.string().transform((text, context) => {
    const parsed = PrivateKey.safeParse(parseJson(text));
    if (parsed.success) return parsed.data;
    context.addIssue("must be the private JWK that `npm run keys -- agent-pair` printed");
    return z.NEVER;
  }),
  HUB_AGENT_NAME: z.string().min(1).default("host-agent"),
  HUB_PUBLIC_URL: z
    .string()
    .transform(parsePublicUrl)
    .refine((url) => url !== undefined, PUBLIC_URL_RULE)
    .optional(),
  HUB_AGENT_ALLOW_HTTP: z.enum(["0", "1"]).default("0"),
  HUB_DEV_MODE: z.enum(["0", "1"]).default("0"),
  HUB_RATE_PER_KEY: PerMinute.optional(),
  HUB_FAILED_AUTH_PER_MINUTE: PerMinute.default(DEFAULT_FAILURES_PER_MINUTE),
});

type App = Pick<ReturnType<typeof createApp>, "fetch">;

let app: Promise<App> | undefined;

export default {
  /** Answers every request. A deployment with wrong settings answers 500 and logs the reason. */
  async fetch(request: Request, env: WorkerEnv): Promise<Response> {
    app ??= createWorkerApp(env);
    // Cloudflare sets this header. On another platform the proxy in front of the Worker must set it.
    const address = request.headers.get("cf-connecting-ip") ?? undefined;
    const response = await (await app).fetch(request, { address });
    await dropBody(request);
    return response;
  },
};

/** Nothing signs what an agent answers: over plain http anyone on the way can forge it. */
function isPlainHttpElsewhere(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === "http:" && !isLoopback(hostname);
}

async function createWorkerApp(env: WorkerEnv): Promise<App> {
  const parsed = Variables.safeParse(env);
  if (!parsed.success) {
    return misconfigured(parsed.error.issues.map((issue) => `${String(issue.path[0])}: ${issue.message}`));
  }
  const { HUB_AGENT_URL, HUB_AGENT_KEY, HUB_AGENT_NAME, HUB_DEV_MODE } = parsed.data;
  const { HUB_RATE_PER_KEY, HUB_FAILED_AUTH_PER_MINUTE } = parsed.data;
  const { HUB_AGENT: service } = env;
  // A VPC service is private whatever the address says.
  if (!service && parsed.data.HUB_AGENT_ALLOW_HTTP === "0" && isPlainHttpElsewhere(HUB_AGENT_URL)) {
    return misconfigured(["HUB_AGENT_URL: plain http to another host; use https or bind a VPC service"]);
  }
  const sign = await requestSigner(HUB_AGENT_KEY, HUB_AGENT_NAME).catch(() => undefined);
  if (sign === undefined) {
    return misconfigured(["HUB_AGENT_KEY: is not a private Ed25519 JWK: its parts do not belong together"]);
  }
  const agent = agentClient(
    httpTransport({
      url: HUB_AGENT_URL.replace(/\/$/, ""),
      fetch: service ? (request) => service.fetch(request) : (request) => fetch(request),
      sign,
    }),
  );
  return createApp({
    agent: rememberHealth(agent, { isOneProcess: false }),
    kv: workersKV(env.HUB_KV),
    keys: kvKeys(env.HUB_KV, {
      devMode: HUB_DEV_MODE === "1",
      digest: sha256,
      onError: (error) => log({ level: "error", event: "keys_unusable", error: String(error) }),
    }),
    digest: sha256,
    publicUrl: parsed.data.HUB_PUBLIC_URL,
    requestsPerMinute: HUB_RATE_PER_KEY || undefined,
    failuresPerMinute: HUB_FAILED_AUTH_PER_MINUTE || undefined,
    // The agent records changes. A refusal has a line in the request log in any case.
    audit: (event) => event.event === "replay" && log({ level: "info", ...event }),
    log,
    now: Date.now,
    ...(env.HUB_ASSETS && { assets: bindingAssets(env.HUB_ASSETS) }),
  });
}

/** `faults` name each wrong variable, but not its value: one of them is a secret. */
function misconfigured(faults: readonly string[]): App {
  return {
    async fetch(request) {
      const requestId = crypto.randomUUID();
      log({ level: "error", event: "misconfigured", faults, request_id: requestId });
      return Response.json(
        {
          type: "urn:serveraihub:problem:internal",
          title: "Something went wrong on our side",
          status: 500,
          detail: "This edge has wrong settings. Its log names them",
          instance: new URL(request.url).pathname,
          code: "internal",
          request_id: requestId,
        },
        {
          status: 500,
          headers: {
            "content-type": "application/problem+json",
            "cache-control": "no-store",
            "x-request-id": requestId,
          },
        },
      );
    },
  };
}

function log(entry: LogEntry): void {
  console.log(logLine(entry));
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

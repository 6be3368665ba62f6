import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, expect } from "vitest";

import { readNodeConfig } from "../../adapters/node/config.ts";
import { serveNode } from "../../adapters/node/serve.ts";
import type { Scope } from "../../handlers/auth.ts";
import { processesOf } from "../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { checkedAnswer } from "./openapi-check.ts";

/** What a deployment is set up with: its own folders, and the HUB_* variables that point at them. */
export interface Setup {
  dir: string;
  env: Record<string, string>;
}

/** A running deployment: only its address counts. */
export interface Deployment {
  url: string;
  stop(): Promise<void>;
}

/** Starts the product in one of the ways it can be deployed. */
export type Deploy = (setup: Setup) => Promise<Deployment>;

/** Node with the agent embedded, in this process, over a real socket. */
export const nodeEmbedded: Deploy = async ({ env }) => {
  const serving = await serveNode(readNodeConfig({ ...env, HUB_PORT: "0" }), env, () => {});
  return { url: serving.url, stop: () => serving.stop() };
};

export interface Ask {
  key?: string | null;
  headers?: Record<string, string>;
  /** Sent as JSON; a string and bytes are sent as they are. */
  body?: unknown;
  signal?: AbortSignal;
}

export interface TestKey {
  name: string;
  key: string;
  scopes: (Scope | "*")[];
}

export const ALL: TestKey = { name: "acme-prod", key: "sk_test_all_0123456789abcdef", scopes: ["*"] };
export const OTHER: TestKey = { name: "other-corp", key: "sk_test_other_0123456789abcdef", scopes: ["*"] };

export interface HubOptions {
  deploy?: Deploy;
  /** `[]` for dev mode. */
  keys?: TestKey[];
  recipes?: object[];
  env?: Record<string, string>;
}

export type Hub = Awaited<ReturnType<typeof startHub>>;

const HELLO = {
  recipe_id: "hello",
  title: "Hello",
  description: "Says hello to its arguments",
  command: ["/bin/sh", "-c", 'echo "hello $*"', "hello"],
};

/**
 * A whole separate Hub for one test: real HTTP, real agent, real processes,
 * real files. Every answer is checked against the served OpenAPI document.
 * Disposing it ends what its runs left and fails if a run's process survives.
 */
export async function startHub(options: HubOptions = {}) {
  const { deploy = nodeEmbedded, keys = [ALL, OTHER] } = options;
  const dir = await realpath(await mkdtemp(join(tmpdir(), "hub-")));
  const root = join(dir, "scripts");
  await mkdir(root);
  const keysFile = join(dir, "keys.json");
  const recipesFile = join(dir, "recipes.json");
  await writeFile(keysFile, JSON.stringify({ keys }), { mode: 0o600 });
  await writeFile(recipesFile, JSON.stringify({ recipes: [HELLO, ...(options.recipes ?? [])] }));
  const env = {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HUB_STATE_DIR: join(dir, "state"),
    HUB_SCRIPT_ROOTS: root,
    HUB_RECIPES_FILE: recipesFile,
    HUB_KEYS_FILE: keysFile,
    // All requests of a test come from one address.
    HUB_FAILED_AUTH_PER_MINUTE: "0",
    ...options.env,
  };
  let deployment = await deploy({ dir, env });
  const runIds = new Set<string>();

  async function ask(method: string, path: string, { key = ALL.key, headers = {}, body, signal }: Ask = {}) {
    const response = await fetch(deployment.url + path, {
      method,
      redirect: "manual",
      ...(signal && { signal }),
      headers: {
        ...(key !== null && keys.length > 0 && { authorization: `Bearer ${key}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: isRaw(body) ? body : JSON.stringify(body) }),
    });
    const answer = await checkedAnswer(deployment.url, method, path, response);
    const runId = answer.json?.run_id;
    if (method === "POST" && typeof runId === "string") runIds.add(runId);
    return answer;
  }

  const hub = {
    dir,
    root,
    keysFile,
    recipesFile,
    env,
    stateDir: env.HUB_STATE_DIR,
    get url() {
      return deployment.url;
    },
    ask,
    get: (path: string, how?: Ask) => ask("GET", path, how),
    post: (path: string, body?: unknown, how?: Ask) => ask("POST", path, { body, ...how }),

    /** Writes an executable script into the root and returns its path. */
    async script(name: string, text: string): Promise<string> {
      const path = join(root, name);
      await writeFile(path, text.startsWith("#!") ? text : `#!/bin/bash\n${text}\n`);
      await chmod(path, 0o755);
      return path;
    },

    /** Launches a script that must start, and returns its record. */
    async runScript(text: string, extra: { args?: string; terminal?: boolean } = {}): Promise<RunRecord> {
      const path = await hub.script(`job${Math.random().toString(36).slice(2)}.sh`, text);
      const { status, json } = await hub.post(base("script"), { path, ...extra });
      expect(json).toMatchObject({ source: "script" });
      expect(status).toBe(201);
      return json as RunRecord;
    },

    /** The record of a run as it is now. */
    async run({ source, run_id }: Pick<RunRecord, "source" | "run_id">): Promise<RunRecord> {
      return (await hub.get(`${base(source)}/${run_id}`)).json as RunRecord;
    },

    /** Waits until the run has ended, and returns its last record. */
    async ended(run: Pick<RunRecord, "source" | "run_id">): Promise<RunRecord> {
      const look = async () => {
        const record = await hub.run(run);
        return record.ended_at === null ? undefined : record;
      };
      // It stays so: each look is a request, and need not come at once.
      return until(look, WITHIN_MS, 60);
    },

    /** All bytes of the log, page by page. */
    async log({ source, run_id }: Pick<RunRecord, "source" | "run_id">): Promise<string> {
      let text = "";
      for (let after = 0; ;) {
        const { json } = await hub.get(`${base(source)}/${run_id}/logs?after=${after}&max_bytes=1048576`);
        text += json.chunk;
        after = json.offset;
        if (!json.more) return text;
      }
    },

    kill: ({ source, run_id }: Pick<RunRecord, "source" | "run_id">, order?: object) =>
      hub.post(`${base(source)}/${run_id}/kill`, order),

    /** Stops the deployment, runs `between`, and starts it again on the same state. */
    async restart(between?: () => Promise<void> | void): Promise<void> {
      await deployment.stop();
      await hub.start(between);
    },

    /** Starts a deployment that is stopped, after `before`. */
    async start(before: () => Promise<void> | void = () => {}): Promise<void> {
      await before();
      deployment = await deploy({ dir, env });
    },

    async [Symbol.asyncDispose](): Promise<void> {
      await deployment.stop();
      await until(() => {
        const left = idsOfLivingRuns(runIds).flatMap((runId) => processesOf(runId));
        for (const { pid } of left) endProcess(pid);
        return left.length === 0 || undefined;
      });
      await rm(dir, { recursive: true, force: true });
    },
  };
  return hub;
}

/**
 * One Hub for those tests of a describe block that look at nothing but their
 * own runs: they do not restart it, count runs, or touch its files.
 */
export function sharedHub(options: HubOptions): () => Hub {
  let hub: Hub | undefined;
  beforeAll(async () => {
    hub = await startHub(options);
  });
  afterAll(() => hub?.[Symbol.asyncDispose]());
  return () => hub!;
}

function isRaw(body: unknown): body is string | Uint8Array<ArrayBuffer> {
  return typeof body === "string" || body instanceof Uint8Array;
}

function base(source: RunRecord["source"]): string {
  return `/api/v1/${source}s/runs`;
}

/** The runs of these that have a process; one look at each process, however many runs there are. */
function idsOfLivingRuns(runIds: ReadonlySet<string>): string[] {
  const ids = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const environ = readFileSync(`/proc/${pid}/environ`, "latin1");
        return /(?:^|\0)HUB_RUN_ID=(?<id>[^\0]*)/.exec(environ)?.groups?.["id"] ?? [];
      } catch {
        return []; // It has ended in between.
      }
    });
  return [...new Set(ids)].filter((id) => runIds.has(id));
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended in between.
  }
}

/** Far more than anything takes that a test waits for: a busy machine is no fault of the product. */
const WITHIN_MS = 90_000;

/** Asks again and again until there is an answer, after pauses that grow up to the longest; throws after `timeoutMs`. */
export async function until<T>(
  look: () => T | undefined | Promise<T | undefined>,
  timeoutMs = WITHIN_MS,
  longestPauseMs = 15,
): Promise<T> {
  const giveUpAt = performance.now() + timeoutMs;
  for (let pauseMs = 15; ; pauseMs = Math.min(longestPauseMs, pauseMs * 1.25)) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > giveUpAt) throw new Error(`nothing within ${timeoutMs} ms: ${look.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

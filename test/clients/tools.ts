import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";

import { expect, onTestFinished, type TestOptions } from "vitest";

import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { ALL, type Hub, startHub } from "../support/hub.ts";
import { needs } from "../support/needs.ts";

/** Where `npm run test:clients:install` installs the tools of others. */
export const TOOLS = join(import.meta.dirname, "tools", "node_modules");

/** The generous limit of a test that runs such a tool: each of them takes seconds to load. */
export const TOOL_TIMEOUT_MS = 240_000;

/** Options of a test that runs one of the tools, and where `isMet` is false lacks something else: the `reason`. */
export function needsTool(name: string, isMet = true, reason = ""): TestOptions {
  const isInstalled = existsSync(join(TOOLS, ".bin", name));
  const missing = isInstalled
    ? needs(isMet, reason)
    : needs(false, "test/clients/tools is not installed (npm run test:clients:install)");
  return { ...missing, timeout: TOOL_TIMEOUT_MS };
}

/**
 * Starts a program of others in a folder, with the tools in its PATH and the
 * variables of docs/clients.md. It ends with the test.
 */
export function startTool(
  folder: string,
  [file, ...args]: readonly [string, ...string[]],
  variables: Readonly<Record<string, string>> = {},
) {
  const path = [join(TOOLS, ".bin"), dirname(process.execPath), process.env["PATH"] ?? "/usr/bin:/bin"];
  const child = spawn(file, args, {
    cwd: folder,
    env: { PATH: path.join(delimiter), HOME: folder, LANG: "C.UTF-8", ...variables },
    stdio: ["ignore", "pipe", "pipe"],
    // A group, so that what the tool has started ends with it.
    detached: true,
  });
  let output = "";
  child.stdout.on("data", (chunk) => (output += String(chunk)));
  child.stderr.on("data", (chunk) => (output += String(chunk)));
  const closed = once(child, "close");
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    process.kill(-child.pid!, "SIGKILL");
    await closed;
  });
  return { child, closed, output: () => output };
}

/** The output of a program of others, which must succeed. */
export async function runTool(
  folder: string,
  command: readonly [string, ...string[]],
  variables: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { child, closed, output } = startTool(folder, command, variables);
  await closed;
  expect(child.exitCode, output()).toBe(0);
  return output();
}

/** The words that run a shell block of docs/clients.md. */
export function shell(block: string): readonly [string, ...string[]] {
  return ["/bin/bash", "-euo", "pipefail", "-c", block];
}

/** The variables that the blocks of docs/clients.md read. */
export function pageVariables(hub: Hub): Record<string, string> {
  return { HUB_URL: hub.url, HUB_KEY: ALL.key };
}

/** The recipe of the document's examples, as a command that runs until it is killed. */
const EXAMPLE_RECIPE = {
  recipe_id: "build_all_extra_features",
  title: "Build all extra features",
  description: "Writes one line and sleeps",
  command: ["/bin/sh", "-c", "echo begun; exec sleep 300"],
};

/**
 * A Hub with the recipe of the document's examples. Its disposal first ends all
 * runs: those that a tool launched are unknown to the test.
 */
export async function startExampleHub(): Promise<Hub> {
  const hub = await startHub({ recipes: [EXAMPLE_RECIPE] });
  const stop = hub[Symbol.asyncDispose];
  return Object.assign(hub, {
    async [Symbol.asyncDispose]() {
      try {
        await endRuns(hub);
      } finally {
        await stop();
      }
    },
  });
}

async function endRuns(hub: Hub): Promise<void> {
  for (const source of ["pipeline", "script"] as const) {
    const { json } = await hub.get(`/api/v1/${source}s/runs`);
    const alive = (json.runs as RunRecord[]).filter(({ ended_at: endedAt }) => endedAt === null);
    for (const run of alive) await hub.kill(run, { signal: "SIGKILL" });
    for (const run of alive) await hub.ended(run);
  }
}

/** A request that newman has sent, and what came of it. */
export interface Sent {
  /** Its method and path, without the ids. */
  operation: string;
  /** The status of the answer; undefined when there was none. */
  status: number | undefined;
  assertions: number;
  /** The assertions that failed, and why. */
  failed: string[];
}

interface Execution {
  request: { method: string; url: { path: string[] } };
  response?: { code: number };
  assertions?: { assertion: string; error?: { message: string } }[];
}

/** The requests in newman's JSON report, in the order in which they were sent. */
export function sentIn(report: string): Sent[] {
  const { executions } = JSON.parse(readFileSync(report, "utf8")).run as { executions: Execution[] };
  return executions.map(({ request, response, assertions = [] }) => ({
    operation: `${request.method} /${request.url.path.join("/")}`.replace(/run_[0-9a-f]{12}/, "{run_id}"),
    status: response?.code,
    assertions: assertions.length,
    failed: assertions.flatMap(({ assertion, error }) => (error ? [`${assertion}: ${error.message}`] : [])),
  }));
}

/** Each operation of the document with the status of its success, such as `GET /healthz 200`. */
export function successesOf(document: {
  paths: Record<string, Record<string, { responses: Record<string, unknown> }>>;
}): string[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { responses }]) => {
      const success = Object.keys(responses).find((status) => status.startsWith("2"));
      return `${method.toUpperCase()} ${path} ${success}`;
    }),
  );
}

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect } from "vitest";

import { sha256 } from "../../adapters/keys-file.ts";
import { memoryKV } from "../../adapters/kv-memory.ts";
import { createApp } from "../../handlers/app.ts";
import { type Agent, startAgent } from "../../host-agent/agent.ts";
import { readAgentConfig } from "../../host-agent/config.ts";
import { processesOf } from "../../host-agent/process-tree.ts";
import type { RunRecord } from "../../host-agent/protocol/schemas.ts";
import { until } from "../hub.ts";
import type { AnyJson } from "../openapi-check.ts";
import type { ModelRun } from "./model.ts";

export const RUNS = "/api/v1/scripts/runs";

interface Reply {
  status: number;
  headers: Headers;
  json: AnyJson;
}

/** The real app in front of the real agent, both in this process, with real runs and a clock that can be moved. */
export class World {
  readonly dir = mkdtempSync(join(tmpdir(), "lifecycle-"));
  constructor() {
    writeFileSync(join(this.dir, "ledger"), "");
    writeFileSync(join(this.dir, "recipes.json"), '{"recipes": []}');
  }

  readonly abandoned: Agent[] = [];
  readonly terminal = new Map<string, RunRecord>();
  ahead = 0;
  agent!: Agent;
  fetch!: (request: Request) => Promise<Response>;

  async start(): Promise<void> {
    const now = () => Date.now() + this.ahead;
    const config = readAgentConfig({
      HUB_STATE_DIR: join(this.dir, "state"),
      HUB_SCRIPT_ROOTS: this.dir,
      HUB_RECIPES_FILE: join(this.dir, "recipes.json"),
    });
    this.agent = await startAgent(config, process.env, now);
    const app = createApp({
      agent: this.agent.operations,
      kv: memoryKV({ now }),
      keys: () => ({ mode: "dev" }),
      digest: sha256,
      log: () => {},
      now,
    });
    this.fetch = app.fetch;
  }

  async ask(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    const response = await this.fetch(
      new Request(`http://127.0.0.1${path}`, {
        method,
        headers: { ...(body && { "content-type": "application/json" }), ...headers },
        ...(body && { body: JSON.stringify(body) }),
      }),
    );
    return { status: response.status, headers: response.headers, json: await response.json() };
  }

  /** Every record that is shown goes through here: a terminal one may never change. */
  see(record: RunRecord): RunRecord {
    const first = this.terminal.get(record.run_id);
    // oxlint-disable-next-line vitest/no-standalone-expect -- part of each command
    if (first) expect(record).toEqual(first);
    if (record.ended_at !== null) this.terminal.set(record.run_id, record);
    return record;
  }

  async ended({ id }: ModelRun): Promise<RunRecord> {
    return until(async () => {
      const { json } = await this.ask("GET", `${RUNS}/${id}`);
      return this.see(json).ended_at === null ? undefined : json;
    });
  }

  async close(): Promise<void> {
    for (const agent of [this.agent, ...this.abandoned]) await agent.close();
    for (const runId of this.launchedIds()) {
      for (const { pid } of processesOf(runId)) process.kill(pid, "SIGKILL");
    }
    rmSync(this.dir, { recursive: true, force: true });
  }

  launchedIds(): string[] {
    return [...this.ran()].map((line) => line.split(" ")[0]!);
  }

  ran(): string[] {
    return readFileSync(join(this.dir, "ledger"), "utf8")
      .split("\n")
      .filter((line) => line !== "");
  }
}

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect } from "vitest";

import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { COMPILE_CACHE } from "../../support/compile-cache.ts";
import { until } from "../../support/hub.ts";
import type { AnyJson } from "../../support/openapi-check.ts";
import type { ModelRun } from "./model.ts";

export const RUNS = "/api/v1/scripts/runs";

const SERVER_TS = fileURLToPath(new URL("server.ts", import.meta.url));

interface Reply {
  status: number;
  headers: Headers;
  json: AnyJson;
}

/** The real server in a separate process, which can be killed, with real runs and a clock that can be moved. */
export class World {
  readonly dir = mkdtempSync(join(tmpdir(), "lifecycle-"));
  constructor() {
    writeFileSync(join(this.dir, "ledger"), "");
    writeFileSync(join(this.dir, "clock"), "0");
    writeFileSync(join(this.dir, "recipes.json"), '{"recipes": []}');
  }

  readonly terminal = new Map<string, RunRecord>();
  #ahead = 0;
  #server!: ChildProcess;
  #url!: string;

  async start(): Promise<void> {
    this.#server = spawn(process.execPath, [SERVER_TS, join(this.dir, "clock")], {
      env: {
        ...COMPILE_CACHE,
        PATH: process.env["PATH"],
        HUB_PORT: "0",
        // The agent alone has to know which launch is a retry.
        HUB_KV: "memory:",
        HUB_KEYS_FILE: join(this.dir, "none.json"),
        HUB_STATE_DIR: join(this.dir, "state"),
        HUB_SCRIPT_ROOTS: this.dir,
        HUB_RECIPES_FILE: join(this.dir, "recipes.json"),
      },
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [line] = await once(this.#server.stdout!, "data");
    this.#url = String(line).trim();
  }

  /** Resolves once the server is gone. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    if (this.#server.exitCode !== null || this.#server.signalCode !== null) return;
    const exited = once(this.#server, "exit");
    this.#server.kill(signal);
    await exited;
  }

  moveClock(ms: number): void {
    this.#ahead += ms;
    // Renamed, for the server reads it at any moment.
    writeFileSync(join(this.dir, "clock.new"), String(this.#ahead));
    renameSync(join(this.dir, "clock.new"), join(this.dir, "clock"));
  }

  async ask(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    const response = await fetch(this.#url + path, {
      method,
      headers: { ...(body && { "content-type": "application/json" }), ...headers },
      ...(body && { body: JSON.stringify(body) }),
    });
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

  /** All runs, the newest first. */
  async list(): Promise<RunRecord[]> {
    const runs = (await this.ask("GET", `${RUNS}?limit=500`)).json.runs as RunRecord[];
    return runs.map((record) => this.see(record));
  }

  async ended({ id }: ModelRun): Promise<RunRecord> {
    return until(async () => {
      const { json } = await this.ask("GET", `${RUNS}/${id}`);
      return this.see(json).ended_at === null ? undefined : json;
    });
  }

  async close(): Promise<void> {
    await this.end("SIGKILL");
    for (const runId of this.ran()) {
      for (const { pid } of processesOf(runId)) process.kill(pid, "SIGKILL");
    }
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** The ids of all runs that started, each as often as it did. */
  ran(): string[] {
    return readFileSync(join(this.dir, "ledger"), "utf8")
      .split("\n")
      .filter((line) => line !== "");
  }
}

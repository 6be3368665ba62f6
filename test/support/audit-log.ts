import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { onTestFinished } from "vitest";

import { openAuditLog } from "../../host-agent/audit/audit-log.ts";
import { COMPILE_CACHE } from "./compile-cache.ts";
import type { Hub } from "./hub.ts";

const CLI = join(import.meta.dirname, "..", "..", "host-agent", "audit", "audit-cli.ts");

/** A line of the log, parsed. */
export type Entry = Record<string, unknown>;

/** Where a Hub keeps its audit log. */
export function auditFile(hub: Hub): string {
  return join(hub.stateDir, "audit.log");
}

/** The lines that are whole entries. */
export function entries(hub: Hub): Entry[] {
  const lines = readFileSync(auditFile(hub), "utf8").trimEnd().split("\n");
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as Entry];
    } catch {
      return [];
    }
  });
}

/** The log at `path`, for an agent that shares it with no other. */
export function openLog(path: string, now: () => number = Date.now) {
  return openAuditLog(path, { now, log: () => {}, knownHead: undefined, exclusively: (work) => work() });
}

/** A log in a separate folder; both are removed when the test has ended. */
export async function tempLog(now?: () => number) {
  const dir = await mkdtemp(join(tmpdir(), "audit-"));
  const path = join(dir, "audit.log");
  const audit = openLog(path, now);
  onTestFinished(async () => {
    audit.close();
    await rm(dir, { recursive: true });
  });
  return { dir, path, audit };
}

/** `npm run audit -- ...` with the settings of a Hub. */
export const auditOf = (hub: Hub, ...args: string[]) => auditCommand(args, hub.env);

/** `npm run audit -- ...` */
export function auditCommand(args: string[], env: Record<string, string> = {}) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const child = execFile(
      process.execPath,
      [CLI, ...args],
      { env: { ...COMPILE_CACHE, ...env } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { parseArgs } from "node:util";

import { verifyAuditLog } from "./audit-verify.ts";
import { readAgentConfig } from "../config.ts";
import { ConfigError } from "../system/config-error.ts";
import type { AuditHead } from "../store/audit-head.ts";

const HELP = `Usage: npm run audit -- <command> [FILE] [options]

  verify              Check every line; report which one was changed, removed, inserted or moved
  head                Print the last line's number and hash: keep it elsewhere, for --head

  --head SEQ:HASH     A line that was once the last one: it must still exist
  --after HASH        The hash of the line before the first one, for a file that continues another file
  --help              Show this

Without FILE: HUB_AUDIT_FILE, or audit.log in HUB_STATE_DIR; then the last line is also compared with the one
that the host-agent noted in its database. Exit code: 0 intact, 1 not intact, 64 wrong usage, 66 file not found.`;

const WHERE = "Name the file, or set HUB_AUDIT_FILE or HUB_STATE_DIR as for the service";
const WHAT_NOW =
  "Keep the file as it is. A backup, or a line that was kept elsewhere (audit head), shows the original; runs.db has the runs themselves.";

const EX_USAGE = 64; // sysexits(3)
const EX_NOINPUT = 66;

try {
  process.exitCode = run(process.argv.slice(2));
} catch (error) {
  const isUsage =
    error instanceof ConfigError || String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
  const code = (error as NodeJS.ErrnoException).code;
  if (!isUsage && code !== "ENOENT" && code !== "EACCES") throw error;
  const { path, message } = error as NodeJS.ErrnoException;
  console.error(
    isUsage ? message : `${path} ${code === "ENOENT" ? "does not exist" : "cannot be read"}. ${WHERE}`,
  );
  process.exitCode = isUsage ? EX_USAGE : EX_NOINPUT;
}

function run(args: string[]): number {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { head: { type: "string" }, after: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  const [command, file, ...more] = positionals;
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  if ((command !== "verify" && command !== "head") || more.length > 0) {
    console.error(HELP);
    return EX_USAGE;
  }
  const config = readAgentConfig(process.env);
  const path = file === undefined ? (config.auditFile ?? join(config.stateDir, "audit.log")) : resolve(file);
  const head = values.head === undefined ? notedHead(file, config.stateDir) : parseHead(values.head);
  const after = values.after === undefined ? {} : { after: parseHash("--after", values.after) };
  const verdict = verifyAuditLog(path, { ...(head && { head }), ...after });
  if (verdict.fault !== undefined) {
    console.error(`${path}: ${verdict.fault}\n${WHAT_NOW}`);
    return 1;
  }
  if (verdict.tornBytes > 0) {
    console.error(
      `${path}: its last line is not complete (${verdict.tornBytes} bytes); the next entry will record that`,
    );
  }
  const { seq, hash } = verdict.head;
  console.log(
    command === "head" ? `${seq}:${hash}` : `${path}: ${verdict.lines} lines, intact to ${seq}:${hash}`,
  );
  return 0;
}

/** The line that the host-agent noted last; known for its configured file only. */
function notedHead(file: string | undefined, stateDir: string): AuditHead | undefined {
  const path = join(stateDir, "runs.db");
  if (file !== undefined || !existsSync(path)) return undefined;
  using db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 });
  const hasTable = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'audit_head'").get();
  return hasTable
    ? (db.prepare("SELECT seq, hash FROM audit_head").get() as AuditHead | undefined)
    : undefined;
}

function parseHead(value: string): AuditHead {
  const [, seq, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(value) ?? [];
  if (seq === undefined)
    throw new ConfigError("--head: must be SEQ:HASH, as `npm run audit -- head` prints it");
  return { seq: Number(seq), hash: hash! };
}

function parseHash(option: string, value: string): string {
  if (!/^[0-9a-f]{64}$/.test(value)) throw new ConfigError(`${option}: must be 64 hex digits`);
  return value;
}

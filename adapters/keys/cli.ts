import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

import { SCOPES } from "../../handlers/auth.ts";
import { expiryTime, KeyFileEntry } from "../../handlers/keys.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { agentPair } from "./agent-pair.ts";
import { readKeysFilePath } from "../node/config.ts";
import { editKeys, KeysError, readKeys } from "./editing.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";

const HELP = `Usage: npm run keys -- <command> [options]

  create --name NAME --scopes A,B   Make a key; it is printed once, and only its SHA-256 is stored
         [--expires DATE]           The last day (2027-05-15) or moment (2027-05-15T12:00:00Z) it is good for
         [--plain]                  Store the key itself
  list                              Show the names, scopes and dates of the keys
  revoke NAME [--last]              Remove a key; --last also when no other is left, which turns on dev mode
  agent-pair                        Make a key pair for an edge that calls a host-agent (HUB_AGENT_TRUST)

  --file PATH                       The keys file; HUB_KEYS_FILE, or else the server's default
  --help                            Show this

Scopes: ${SCOPES.join(", ")}, * (all of them). A running server knows a change within a second.`;

/** The command line is wrong: the message says what is. */
class UsageError extends Error {
  override readonly name = "UsageError";
}

const EX_USAGE = 64; // sysexits(3)

try {
  await run(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`${error.message}\nTry: npm run keys -- --help`);
    process.exitCode = EX_USAGE;
  } else if (error instanceof KeysError || error instanceof ConfigError) {
    console.error(error.message);
    process.exitCode = 1;
  } else {
    throw error;
  }
}

async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseCommandLine(args);
  const [command, ...operands] = positionals;
  if (values.help) return console.log(HELP);
  const file = values.file === undefined ? readKeysFilePath(process.env) : resolve(values.file);
  const { name, scopes, expires, plain = false, last = false } = values;
  switch (command) {
    case "create":
      refuse(operands, { last });
      return create(file, { name, scopes, expires, plain });
    case "list":
      refuse(operands, { name, scopes, expires, plain, last });
      return list(file);
    case "revoke":
      refuse(operands.slice(1), { name, scopes, expires, plain });
      if (operands[0] === undefined) throw new UsageError("revoke: say which key, by its name");
      return revoke(file, operands[0], last);
    case "agent-pair":
      refuse(operands, { name, scopes, expires, plain, last, file: values.file });
      return agentPair(process.env, console.log);
    default:
      throw new UsageError(
        command === undefined ? "Say what to do" : `There is no command ${JSON.stringify(command)}`,
      );
  }
}

function parseCommandLine(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        name: { type: "string" },
        scopes: { type: "string" },
        expires: { type: "string" },
        plain: { type: "boolean" },
        last: { type: "boolean" },
        file: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** What a command has no use for was meant for another one. */
function refuse(operands: string[], options: Record<string, unknown>): void {
  const [option] = Object.entries(options).find(([, value]) => value !== undefined && value !== false) ?? [];
  if (option !== undefined) throw new UsageError(`--${option} does not belong to this command`);
  if (operands[0] !== undefined) throw new UsageError(`${JSON.stringify(operands[0])} is one word too many`);
}

interface Wanted {
  name: string | undefined;
  scopes: string | undefined;
  expires: string | undefined;
  plain: boolean;
}

function create(file: string, { name, scopes, expires, plain }: Wanted): void {
  const key = `sk_live_${randomBytes(32).toString("base64url")}`;
  const entry = checkEntry({
    name,
    ...(plain ? { key } : { key_sha256: sha256(key) }),
    scopes: scopes?.split(",").map((scope) => scope.trim()),
    created: new Date().toISOString().slice(0, 10),
    ...(expires !== undefined && { expires }),
  });
  if ((expiryTime(entry.expires) ?? Number.POSITIVE_INFINITY) <= Date.now()) {
    throw new UsageError(`--expires: ${expires} is over already`);
  }
  editKeys(file, (document) => {
    if (document.keys.some((other) => other.name === entry.name)) {
      throw new KeysError(`There is a key ${entry.name} already; choose another name, or revoke it first`);
    }
    return { ...document, keys: [...document.keys, entry] };
  });
  // Only the key goes to stdout, so that it can be piped on.
  console.error(`The key ${entry.name} is in ${file}; who has none of its keys is refused from now on.
It is not shown again:`);
  console.log(key);
}

function checkEntry(entry: object): KeyFileEntry {
  const parsed = KeyFileEntry.safeParse(entry, {
    error: ({ input }) => (input === undefined ? "is missing" : undefined),
  });
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path, message }) => `--${String(path[0])}: ${message}`);
  throw new UsageError([...new Set(faults)].join("\n"));
}

async function list(file: string): Promise<void> {
  const { keys } = readKeys(file);
  if (keys.length === 0) {
    console.error(`There are no keys in ${file}: the Hub is in dev mode and serves everyone who reaches it`);
    return;
  }
  const rows = keys.map((entry) => [
    entry.name,
    entry.scopes.join(","),
    entry.created ?? "-",
    entry.expires ?? "never",
    entry.key === undefined ? "sha256" : "plain",
  ]);
  const { renderTable } = await import("../client/table.ts");
  process.stdout.write(await renderTable(["NAME", "SCOPES", "CREATED", "EXPIRES", "STORED"], rows));
}

function revoke(file: string, name: string, last: boolean): void {
  let left = 0;
  editKeys(file, (document) => {
    const keys = document.keys.filter((entry) => entry.name !== name);
    if (keys.length === document.keys.length) {
      throw new KeysError(`There is no key ${JSON.stringify(name)} in ${file}; nothing was changed`);
    }
    if (keys.length === 0 && !last) {
      throw new KeysError(
        `${name} is the last key, and without one the Hub serves everyone who reaches it (dev mode). ` +
          `Create another key first, or say --last. Nothing was changed`,
      );
    }
    left = keys.length;
    return { ...document, keys };
  });
  const open = "; it was the last one, and the Hub is open now to everyone who reaches it";
  console.error(`The key ${name} is revoked${left === 0 ? open : ""}`);
}

// adapters/keys/ is the program that changes the keys file and the agent's trust file. Belongs here: commands, and how such
// a file is replaced. It may import handlers/keys.ts, handlers/auth.ts, node/config.ts, and of host-agent/ the settings,
// protocol/, system/ and the format of the trust file.
import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

import { SCOPES } from "../../handlers/auth.ts";
import { expiryTime, KeyFileEntry } from "../../handlers/keys.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { agentPair } from "./agent-pair.ts";
import { readKeysFilePath } from "../node/config.ts";
import { editKeys, KeysError, readKeys } from "./editing.ts";
import { serviceAfterChange } from "./service-after-change.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";

const HELP = `Usage: npm run keys -- <command> [options]

  create --name NAME --scopes A,B   Create a key. It is printed once; only its SHA-256 is stored
         [--expires DATE]           The last day (2027-05-15) or the time (2027-05-15T12:00:00Z) until which it is valid
         [--plain]                  Store the key itself
  list                              Show the names, scopes and dates of the keys
  revoke NAME [--last]              Remove a key. --last also removes the last one, which turns on dev mode
  agent-pair                        Create a key pair for an edge that calls a host-agent (HUB_AGENT_TRUST). The private
                                    key alone goes to stdout
         [--out FILE]               Write the private key to a new file, mode 0600, instead

  --file PATH                       The keys file. Default: HUB_KEYS_FILE, or the server's default
  --help                            Show this

Scopes: ${SCOPES.join(", ")}, * (all of them). A running server uses a change within a second.`;

/** The command line is wrong: the message says what is wrong. */
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
  const { name, scopes, expires, plain = false, last = false, out } = values;
  switch (command) {
    case "create":
      refuse(operands, { last, out });
      create(file, { name, scopes, expires, plain });
      return console.error(await serviceAfterChange(process.env, file));
    case "list":
      refuse(operands, { name, scopes, expires, plain, last, out });
      return list(file);
    case "revoke":
      refuse(operands.slice(1), { name, scopes, expires, plain, out });
      if (operands[0] === undefined) throw new UsageError("revoke: the name of the key is missing");
      return revoke(file, operands[0], last);
    case "agent-pair":
      refuse(operands, { name, scopes, expires, plain, last, file: values.file });
      return agentPair(process.env, {
        key: console.log,
        note: console.error,
        file: out === undefined ? undefined : resolve(out),
      });
    default:
      throw new UsageError(
        command === undefined ? "A command is missing" : `Unknown command ${JSON.stringify(command)}`,
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
        out: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Throws UsageError for an option or a word that the command does not use. */
function refuse(operands: string[], options: Record<string, unknown>): void {
  const [option] = Object.entries(options).find(([, value]) => value !== undefined && value !== false) ?? [];
  if (option !== undefined) throw new UsageError(`--${option} is not an option of this command`);
  if (operands[0] !== undefined) throw new UsageError(`Unexpected argument ${JSON.stringify(operands[0])}`);
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
    throw new UsageError(`--expires: ${expires} is in the past`);
  }
  editKeys(file, (document) => {
    if (document.keys.some((other) => other.name === entry.name)) {
      throw new KeysError(`The key ${entry.name} exists already. Choose another name, or revoke it first`);
    }
    return { ...document, keys: [...document.keys, entry] };
  });
  // Only the key goes to stdout, so that a pipe gets nothing else.
  console.error(`The key ${entry.name} is in ${file}. It is not shown again:`);
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
    console.error(
      `${file} has no keys: a Hub with this file is in dev mode and serves everyone who can reach it`,
    );
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
      throw new KeysError(`The key ${JSON.stringify(name)} is not in ${file}. Nothing was changed`);
    }
    if (keys.length === 0 && !last) {
      throw new KeysError(
        `${name} is the last key. Without a key the Hub serves everyone who can reach it (dev mode). ` +
          `Create another key first, or add --last. Nothing was changed`,
      );
    }
    left = keys.length;
    return { ...document, keys };
  });
  const open = ". It was the last key: a Hub with this file is open now to everyone who can reach it";
  console.error(`The key ${name} is removed from ${file}${left === 0 ? open : ""}`);
}

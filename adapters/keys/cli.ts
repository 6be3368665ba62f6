// adapters/keys/ is the program that changes the keys file and the agent's trust file. Belongs here: commands, and how such
// a file is replaced. It may import handlers/keys.ts, handlers/auth.ts, node/config.ts, and of host-agent/ the settings,
// protocol/, system/ and the format of the trust file.
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

import { SCOPES } from "../../handlers/auth.ts";
import { KeyFileEntry } from "../../handlers/keys.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { agentPair } from "./agent-pair.ts";
import { readKeysFilePath } from "../node/config.ts";
import { checkKey } from "./check.ts";
import { editKeys, KeysError, readKeys } from "./editing.ts";
import { isOver, openSurface, reachText } from "./rights.ts";
import { rotateKey } from "./rotate.ts";
import { makeKey, today } from "./secret.ts";
import { serviceAfterChange } from "./service-after-change.ts";
import { timeFromNow } from "./time-from-now.ts";

const HELP = `Usage: npm run keys -- <command> [options]

  create --name NAME --scopes A,B   Create a key. It is printed once; only its SHA-256 is stored
         [--recipes P,Q]            Only these recipes: ids in which * matches any characters
         [--script-paths P,Q]       Only these scripts: real paths; * within a segment, ** for any number of segments
         [--runs own]               Only runs that were launched under this name
         [--expires WHEN]           The last day (2027-05-15), a time (2027-05-15T12:00:00Z), or a time from now (90d, 12h)
         [--plain]                  Store the key itself
  list                              Show the names, scopes, reach and dates of the keys
  rotate NAME [--overlap 7d]        Create a second key with the same name and rights. The first one ends after the overlap
         [--expires WHEN]           As for create; needed when the first one expires; "never" for no end
  check                             Show what a key may do. The key is read from stdin
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

/** For how long an earlier secret stays valid after a rotation. */
const DEFAULT_OVERLAP = "7d";
/** The options of the fields of an entry whose names differ. */
const OPTIONS: Record<string, string> = { script_paths: "script-paths" };
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
  const { name, scopes, expires, plain = false, last = false, out, overlap } = values;
  const { recipes, "script-paths": script_paths, runs } = values;
  const reach = { recipes, "script-paths": script_paths, runs };
  switch (command) {
    case "create":
      refuse(operands, { last, out, overlap });
      create(file, { name, scopes, expires, plain, recipes, script_paths, runs });
      return console.error(await serviceAfterChange(process.env, file));
    case "list":
      refuse(operands, { name, scopes, expires, plain, last, out, overlap, ...reach });
      return list(file);
    case "rotate":
      refuse(operands.slice(1), { name, scopes, plain, last, out, ...reach });
      if (operands[0] === undefined) throw new UsageError("rotate: the name of the key is missing");
      rotate(file, operands[0], { overlap, expires });
      return console.error(await serviceAfterChange(process.env, file));
    case "check":
      refuse(operands, { name, scopes, expires, plain, last, out, overlap, ...reach });
      return check(file);
    case "revoke":
      refuse(operands.slice(1), { name, scopes, expires, plain, out, overlap, ...reach });
      if (operands[0] === undefined) throw new UsageError("revoke: the name of the key is missing");
      return revoke(file, operands[0], last);
    case "agent-pair":
      refuse(operands, { name, scopes, expires, plain, last, overlap, ...reach, file: values.file });
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
        recipes: { type: "string" },
        "script-paths": { type: "string" },
        runs: { type: "string" },
        overlap: { type: "string" },
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
  recipes: string | undefined;
  script_paths: string | undefined;
  runs: string | undefined;
  expires: string | undefined;
  plain: boolean;
}

function create(file: string, { name, scopes, recipes, script_paths, runs, expires, plain }: Wanted): void {
  const { key, stored } = makeKey(plain);
  const entry = checkEntry({
    name,
    ...stored,
    scopes: listed(scopes),
    ...(recipes !== undefined && { recipes: listed(recipes) }),
    ...(script_paths !== undefined && { script_paths: listed(script_paths) }),
    ...(runs !== undefined && { runs }),
    created: today(),
    ...(expires !== undefined && { expires: timeFromNow(expires) ?? expires }),
  });
  if (isOver(entry)) {
    throw new UsageError(`--expires: ${expires} is in the past`);
  }
  editKeys(file, (document) => {
    if (document.keys.some((other) => other.name === entry.name)) {
      throw new KeysError(
        `The key ${entry.name} exists already. Choose another name, revoke it first, or give it a new secret: npm run keys -- rotate`,
      );
    }
    return { ...document, keys: [...document.keys, entry] };
  });
  const open = openSurface(entry);
  if (open !== undefined) console.error(open);
  show(key, entry.name, file);
}

/** Only the key goes to stdout, so that a pipe gets nothing else. */
function show(key: string, name: string, file: string): void {
  console.error(`The key ${name} is in ${file}. It is not shown again:`);
  console.log(key);
}

function listed(text: string | undefined): string[] | undefined {
  return text?.split(",").map((part) => part.trim());
}

function rotate(
  file: string,
  name: string,
  given: { overlap: string | undefined; expires: string | undefined },
): void {
  const overlap = given.overlap ?? DEFAULT_OVERLAP;
  const end = timeFromNow(overlap);
  if (end === undefined) throw new UsageError("--overlap: must be a time such as 7d, 12h or 30m");
  const expires = given.expires === undefined ? undefined : (timeFromNow(given.expires) ?? given.expires);
  const { key, stored } = makeKey(false);
  editKeys(file, (document) => {
    const { earlier, next } = rotateKey(
      document.keys,
      name,
      { ...stored, created: today() },
      { end, expires },
    );
    const entry = checkEntry(next);
    if (isOver(entry)) throw new UsageError(`--expires: ${expires} is in the past`);
    return { ...document, keys: [...earlier, entry] };
  });
  console.error(
    `The earlier key ${name} is valid until ${end} at the latest. The new one has the same rights.`,
  );
  show(key, name, file);
}

async function check(file: string): Promise<void> {
  // Not an argument, which other users of this machine could read.
  if (process.stdin.isTTY) console.error("Type the key and press Enter:");
  const key = await firstLine(process.stdin);
  if (key === "") throw new UsageError("check: there is no key on stdin");
  process.stdout.write(await checkKey(file, key));
}

async function firstLine(stream: NodeJS.ReadStream): Promise<string> {
  for await (const line of createInterface({ input: stream })) return line.trim();
  return "";
}

function checkEntry(entry: object): KeyFileEntry {
  const parsed = KeyFileEntry.safeParse(entry, {
    error: ({ input }) => (input === undefined ? "is missing" : undefined),
  });
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path, message }) => {
    const field = path[0] === undefined ? "" : `--${OPTIONS[String(path[0])] ?? String(path[0])}: `;
    return `${field}${message}`;
  });
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
    reachText(entry),
  ]);
  const { renderTable } = await import("../client/table.ts");
  process.stdout.write(await renderTable(["NAME", "SCOPES", "CREATED", "EXPIRES", "STORED", "REACH"], rows));
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

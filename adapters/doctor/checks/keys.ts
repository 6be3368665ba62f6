import { readFileSync } from "node:fs";
import { dirname } from "node:path";

import { expiryTime, type KeyFileEntry, parseKeys } from "../../../handlers/keys.ts";
import { isLoopback } from "../../../handlers/loopback.ts";
import { withoutByteOrderMark } from "../../../host-agent/protocol/byte-order-mark.ts";
import { sha256 } from "../../../host-agent/system/sha256.ts";
import { createKeyCommand } from "../../node/keys-path.ts";
import { modeOfHub, originOf } from "../../client/mode-of-hub.ts";
import { modeOf, statOf, strangersAt } from "../files.ts";
import { type Check, fail, type Finding, messageOf, pass, type Patient, warn } from "../finding.ts";

const SOON_MS = 14 * 86_400_000;

/** The keys file: who may read or change it, and its keys. */
export const keys: Check = {
  name: "API keys",
  async look(patient) {
    const { keysFile: path } = patient;
    const stats = statOf(path);
    if (stats === undefined) return [await withoutKeys(`The keys file ${path} does not exist`, patient)];
    if (!stats.isFile())
      return [fail(`${path} is not a regular file.`, "Set HUB_KEYS_FILE to the keys file itself.")];
    return [...mayTouch(path), ...(await entries(path, patient))];
  },
};

async function withoutKeys(fault: string, { node, keysFile }: Patient): Promise<Finding> {
  const advice = `Create a key: ${createKeyCommand(keysFile)}`;
  const origin = node && originOf(node);
  if (origin !== undefined && (await modeOfHub(origin)) === "enforced") {
    return warn(
      `${fault}, but the service at ${origin} requires API keys: it has another keys file, which was not checked.`,
      "Run the doctor with the environment variables of the service, HUB_KEYS_FILE above all.",
    );
  }
  if (node && !isLoopback(node.host)) {
    return node.allowOpen
      ? warn(`${fault}, and HUB_ALLOW_OPEN=1: everyone who can reach ${node.host} may launch.`, advice)
      : fail(`${fault}, and HUB_HOST is ${node.host}: the server refuses to start.`, advice);
  }
  return warn(
    `${fault}: dev mode. Every user of this machine may launch, as ${process.getuid?.() === 0 ? "root" : "the user of the service"}.`,
    advice,
  );
}

function mayTouch(path: string): Finding[] {
  const stats = statOf(path)!;
  const findings: Finding[] = [];
  const user = process.getuid?.();
  if (stats.uid !== user && stats.uid !== 0) {
    findings.push(
      fail(
        `${path} belongs to uid ${stats.uid}, who can add keys.`,
        `chown it to the user of the service (uid ${user}).`,
      ),
    );
  }
  if ((stats.mode & 0o077) !== 0) {
    findings.push(
      fail(
        `${path} is open to other users (mode ${modeOf(stats)}).`,
        `chmod 0600 ${path}, and replace the keys that were stored in plain.`,
      ),
    );
  }
  const folder = dirname(path);
  const strangers = strangersAt(folder);
  if (strangers !== undefined) {
    findings.push(
      fail(
        `${folder} ${strangers}: others may replace the keys file.`,
        `chown it to root or the user of the service, and chmod go-w ${folder}`,
      ),
    );
  }
  return findings.length > 0 ? findings : [pass(`${path} is readable for its owner only.`)];
}

async function entries(path: string, patient: Patient): Promise<Finding[]> {
  let found: KeyFileEntry[];
  let warnings: readonly string[];
  try {
    const text = readFileSync(path, "utf8");
    ({ warnings = [] } = await parseKeys(text, sha256));
    found = (JSON.parse(withoutByteOrderMark(text)) as { keys: KeyFileEntry[] }).keys;
  } catch (error) {
    return [
      fail(
        `${path} cannot be used: ${messageOf(error)}.`,
        "Fix it, or remove it and run npm run keys -- create. The server does not start with it.",
      ),
    ];
  }
  if (found.length === 0) return [await withoutKeys(`${path} has no keys`, patient)];
  const findings: Finding[] = [];
  const now = Date.now();
  const expired = found.filter((entry) => endOf(entry) <= now);
  const soon = found.filter((entry) => endOf(entry) > now && endOf(entry) <= now + SOON_MS);
  if (expired.length === found.length) {
    findings.push(
      fail(
        `All keys have expired (${names(expired)}): every request is refused.`,
        "Create a new one: npm run keys -- create",
      ),
    );
  } else {
    findings.push(pass(`${found.length - expired.length} of ${found.length} keys are in force.`));
    if (expired.length > 0)
      findings.push(warn(`These keys have expired: ${names(expired)}.`, "npm run keys -- revoke NAME"));
  }
  if (soon.length > 0)
    findings.push(warn(`These keys expire within two weeks: ${names(soon)}.`, "Create new ones now."));
  if (warnings.length > 0) {
    findings.push(
      warn(
        `${path} has fields that nothing reads: ${warnings.join("; ")}.`,
        "Remove them, or correct their names: docs/keys.md, The file.",
      ),
    );
  }
  const plain = found.filter(({ key }) => key !== undefined);
  if (plain.length > 0) {
    findings.push(
      warn(
        `These keys are stored in plain: ${names(plain)}.`,
        "Replace key by key_sha256: printf %s KEY | sha256sum",
      ),
    );
  }
  return findings;
}

function names(found: readonly KeyFileEntry[]): string {
  return found.map(({ name }) => name).join(", ");
}

function endOf({ expires }: KeyFileEntry): number {
  return expiryTime(expires) ?? Number.POSITIVE_INFINITY;
}

import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { readHosts } from "../../../adapters/cli/hosts.ts";
import { parseKeysFile } from "../../../handlers/keys.ts";
import { parseTrustFile } from "../../../host-agent/door/trusted-keys.ts";
import { tempDir } from "../../support/temp-dir.ts";

const SECRET = "sk_live_never_shown";
const CUT_OFF = `\uFEFF{"keys": [\n{"kid": "${SECRET}"`;
const WHERE = `it is not valid JSON (line 2, column ${CUT_OFF.split("\n")[1]!.length + 1}). Correct it there (a missing or extra comma, quote or bracket), or restore the last good copy`;

test.for([
  ["keys", parseKeysFile],
  ["trust", parseTrustFile],
] as const)(
  "a %s file that is not JSON is reported with its place and what to do, and is not quoted",
  ([, parse]) => {
    expect(() => parse(CUT_OFF)).toThrow(new Error(WHERE));
    expect(() => parse(" \n")).toThrow(/^it is not valid JSON \(it is empty\)\. /);
    expect(() => parse(`{"keys": [],, "x": "${SECRET}"}`)).toThrow(
      /^it is not valid JSON \(line 1, column 13\)\. /,
    );
  },
);

test("a hosts file that is not JSON is reported with its place and the command that makes another, and is not quoted", async () => {
  const path = join(tempDir(), "hosts.json");
  writeFileSync(path, CUT_OFF);
  chmodSync(path, 0o600);

  await expect(readHosts(path)).rejects.toThrow(
    `${path}: ${WHERE}, or remove the file and run \`hub login\` again`,
  );
});

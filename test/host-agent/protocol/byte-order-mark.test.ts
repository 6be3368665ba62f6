import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { readHosts } from "../../../adapters/cli/hosts.ts";
import { readKeys } from "../../../adapters/keys/editing.ts";
import { parseKeysFile } from "../../../handlers/keys.ts";
import { parseCatalogue } from "../../../host-agent/catalogue/recipes-file.ts";
import { parseTrustFile } from "../../../host-agent/door/trusted-keys.ts";
import { tempDir } from "../../support/temp-dir.ts";

const withMark = (value: object) => `\uFEFF${JSON.stringify(value)}`;

const KEYS = { keys: [{ name: "acme", key_sha256: "0".repeat(64), scopes: ["*"] }] };
const TRUST = { keys: [{ kty: "OKP", crv: "Ed25519", kid: "k", x: "A".repeat(43) }] };
const HOSTS = { default: "a", hosts: { a: { url: "http://localhost", key: "k" } } };

test("a byte order mark before a keys, trust, recipes or hosts file locks nobody out", async () => {
  const write = (value: object) => {
    const path = join(tempDir(), "file.json");
    writeFileSync(path, withMark(value), { mode: 0o600 });
    return path;
  };
  expect(parseKeysFile(withMark(KEYS)).keys).toHaveLength(1);
  expect(readKeys(write(KEYS)).keys).toHaveLength(1);
  expect(parseTrustFile(withMark(TRUST)).keys).toHaveLength(1);
  expect(parseCatalogue(withMark({ recipes: [] }), "/").faults).toEqual([]);
  expect(await readHosts(write(HOSTS))).toEqual(HOSTS);
});

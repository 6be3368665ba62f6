import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

import { createKeyCommand, defaultKeysFile } from "../../../adapters/node/keys-path.ts";
import { needs } from "../../support/needs.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../../support/other-user.ts";
import { tempDir } from "../../support/temp-dir.ts";

const ADAPTERS = fileURLToPath(new URL("../../../adapters", import.meta.url));

test("the default keys file is the document's where it exists or can be created, and this user's own otherwise", () => {
  const dir = tempDir();
  const own = join(dir, "serveraihub", "enterprise_keys.json");
  const env = { XDG_CONFIG_HOME: dir };
  const shared = join(dir, "app", "config", "enterprise_keys.json");

  expect(defaultKeysFile(env, shared)).toBe(shared);
  writeFileSync(join(dir, "file"), "");
  expect(defaultKeysFile(env, join(dir, "file", "config", "keys.json")), "no folder can be made").toBe(own);
  mkdirSync(join(dir, "serveraihub"));
  writeFileSync(own, "{}");
  expect(defaultKeysFile(env, shared), "keys that were in force stay in force").toBe(own);
  mkdirSync(join(dir, "app", "config"), { recursive: true });
  writeFileSync(shared, "{}");
  expect(defaultKeysFile(env, shared)).toBe(shared);
});

test(
  "an ordinary user with default settings can create a key, and passes the doctor",
  needs(CAN_BE_NOBODY, WHY_NOT_NOBODY),
  () => {
    const home = tempDir();
    chownSync(home, NOBODY_UID, NOBODY_UID);
    chmodSync(home, 0o755);
    const run = (program: string, ...args: string[]) =>
      spawnSync(process.execPath, [join(ADAPTERS, program), ...args], {
        uid: NOBODY_UID,
        gid: NOBODY_UID,
        env: { PATH: process.env["PATH"], HOME: home, HUB_PORT: "0" },
        encoding: "utf8",
      });

    const created = run("keys/cli.ts", "create", "--name", "a", "--scopes", "*");
    expect(created.stderr).toContain(`${home}/.config/serveraihub/enterprise_keys.json`);
    expect(created.status).toBe(0);

    const { ok, results } = JSON.parse(run("doctor/doctor.ts", "--checks-only", "--json").stdout);
    expect({ ok, failed: results.filter(({ status }: { status: string }) => status === "fail") }).toEqual({
      ok: true,
      failed: [],
    });
    expect(JSON.stringify(results)).not.toContain("is inside the root");
  },
);

test("the command that creates a key is quoted for a shell", () => {
  expect(createKeyCommand("/a b/it's.json")).toContain(String.raw`--file '/a b/it'\''s.json' --name`);
});

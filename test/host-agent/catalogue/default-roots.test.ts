import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { expect, test } from "vitest";

import { readNodeConfig } from "../../../adapters/node/config.ts";
import { openScripts } from "../../../host-agent/catalogue/scripts.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** A home with scripts in these places, and what its default settings let a client list and launch. */
function homeWith(places: readonly string[], env: Record<string, string> = {}) {
  const home = tempDir();
  for (const place of places) {
    mkdirSync(dirname(join(home, place)), { recursive: true });
    writeFileSync(join(home, place), "true\n");
  }
  const { agent } = readNodeConfig({ HOME: home, ...env });
  return { home, scripts: openScripts(agent.scriptRoots, agent.leftOut) };
}

test("by default no script is launched from a hidden folder of the home, also not through a link or by its own path", async () => {
  const { home, scripts } = homeWith(["jobs/a.sh", ".config/tool/b.sh", "jobs/.old/c.sh", ".profile.sh"]);
  symlinkSync(join(home, ".config/tool"), join(home, "tool"));

  expect((await scripts.list()).scripts.map(({ path }) => path)).toEqual([join(home, "jobs/a.sh")]);
  await expect(scripts.approve(join(home, "jobs/a.sh"))).resolves.toMatchObject({ name: "a" });
  for (const path of [
    ".config/tool/b.sh",
    "tool/b.sh",
    "jobs/.old/c.sh",
    ".profile.sh",
    ".config/none.sh",
    "tool/none.sh",
  ]) {
    await expect(scripts.approve(join(home, path)), path).rejects.toMatchObject({ code: "path_forbidden" });
  }
});

test("by default no script is launched from the folders of the Hub's state, configuration and keys in the home", async () => {
  const home = tempDir();
  const { scripts } = homeWith([], {
    HOME: home,
    XDG_CONFIG_HOME: join(home, "config"),
    HUB_STATE_DIR: join(home, "state"),
    HUB_KEYS_FILE: join(home, "keys", "keys.json"),
  });
  // Created after the start.
  for (const place of ["config/serveraihub", "state/runs", "keys"]) {
    mkdirSync(join(home, place), { recursive: true });
    writeFileSync(join(home, place, "a.sh"), "true\n");
    const launched = scripts.approve(join(home, place, "a.sh"));
    await expect(launched, place).rejects.toMatchObject({ code: "path_forbidden" });
  }
  expect((await scripts.list()).scripts).toEqual([]);
});

test("a keys file directly in the home does not forbid the home's scripts", async () => {
  const home = tempDir();
  const { scripts } = homeWith([], { HOME: home, HUB_KEYS_FILE: join(home, "keys.json") });
  writeFileSync(join(home, "a.sh"), "true\n");
  await expect(scripts.approve(join(home, "a.sh"))).resolves.toMatchObject({ name: "a" });
});

test("a hidden folder that HUB_SCRIPT_ROOTS names is a root like any other", async () => {
  const home = tempDir();
  const root = join(home, ".jobs");
  mkdirSync(join(root, ".more"), { recursive: true });
  writeFileSync(join(root, ".more", "a.sh"), "true\n");
  const { scripts } = homeWith([], { HOME: home, HUB_SCRIPT_ROOTS: root });
  await expect(scripts.approve(join(root, ".more", "a.sh"))).resolves.toMatchObject({ name: "a" });
});

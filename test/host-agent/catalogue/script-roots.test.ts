import {
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { openScripts, type Scripts } from "../../../host-agent/catalogue/scripts.ts";
import { ApiProblem } from "../../../host-agent/protocol/problem.ts";
import { needs } from "../../support/needs.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** Long ago: the next time that the link is followed sets its access time, also with relatime. */
const LONG_AGO = 1_000_000_000;

/** A link that shows whether anybody has followed it. */
function makeCanary(path: string, target: string) {
  symlinkSync(target, path);
  lutimesSync(path, LONG_AGO, LONG_AGO);
  return { path, wasFollowed: () => lstatSync(path).atimeMs !== LONG_AGO * 1_000 };
}

const KEEPS_ACCESS_TIMES = (() => {
  const dir = mkdtempSync(join(tmpdir(), "hub-atime-"));
  const canary = makeCanary(join(dir, "link"), dir);
  realpathSync(canary.path);
  const isSeen = canary.wasFollowed();
  rmSync(dir, { recursive: true });
  return isSeen;
})();

function makeTree() {
  const top = realpathSync(tempDir());
  const root = join(top, "root");
  for (const folder of ["outside", "outside/.ssh", "root/sub"])
    mkdirSync(join(top, folder), { recursive: true });
  writeFileSync(join(root, "a.sh"), "true");
  writeFileSync(join(top, "outside", "a.sh"), "true");
  writeFileSync(join(top, "outside", "file"), "");
  return { top, root, scripts: openScripts([root]) };
}

/** What each use of a path comes to: listing, reading and launching. */
async function outcomes(scripts: Scripts, path: string): Promise<string[]> {
  const uses: Promise<unknown>[] = [scripts.list(path), scripts.read(path), scripts.approve(path)];
  return Promise.all(uses.map((use) => use.then(() => "found", describeProblem)));
}

function describeProblem(error: unknown): string {
  return error instanceof ApiProblem ? `${error.code} ${error.message}` : String(error);
}

describe("a path that a client sends", () => {
  test(
    "touches nothing outside the roots, however it leads there and back",
    needs(KEEPS_ACCESS_TIMES, "the file system of the temporary folder keeps no access times (noatime)"),
    async () => {
      const { top, root, scripts } = makeTree();
      const canary = makeCanary(join(top, "canary"), join(top, "outside"));
      symlinkSync("../canary", join(root, "out"));
      symlinkSync("../canary/a.sh", join(root, "out.sh"));
      symlinkSync(join(top, "canary", "..", "root", "a.sh"), join(root, "back.sh"));

      for (const path of [
        `${canary.path}/a.sh`,
        `${canary.path}/../root/a.sh`,
        `${root}/../canary/a.sh`,
        `${root}/../canary/../root/sub`,
        `${root}/out/a.sh`,
        `${root}/out/../a.sh`,
        `${root}/out.sh`,
        `${root}/back.sh`,
      ]) {
        await outcomes(scripts, path);
        expect(canary.wasFollowed(), path).toBe(false);
      }
      expect((await scripts.list()).scripts.map(({ path }) => path)).toEqual([
        join(root, "a.sh"),
        join(root, "back.sh"),
      ]);
      expect(canary.wasFollowed(), "a list of scripts follows no link out of the roots").toBe(false);
    },
  );

  test("has the same answer whether what it passes outside the roots exists, is a file or does not exist", async () => {
    const { top, root, scripts } = makeTree();
    for (const outside of ["outside/.ssh", "outside/none", "outside/file"]) {
      const way = `${top}/${outside}/../../root`;
      const [script, missing, folder] = await Promise.all(
        ["a.sh", "none.sh", "sub"].map((name) => outcomes(scripts, `${way}/${name}`)),
      );
      expect(script, outside).toEqual([
        "script_not_found path: no folder exists at this path",
        "found",
        "found",
      ]);
      expect(missing, outside).toEqual([
        "script_not_found path: no folder exists at this path",
        "script_not_found path: no script exists at this path",
        "script_not_found path: no script exists at this path",
      ]);
      expect(folder![0], outside).toBe("found");
    }
    const [existing, none] = await Promise.all(
      [`${root}/../outside/a.sh`, `${root}/../outside/none.sh`].map((path) => outcomes(scripts, path)),
    );
    expect(existing).toEqual(none);
  });

  test("with thousands of parts is refused by its words, before anything is looked at", async () => {
    const { root, scripts } = makeTree();
    const long = `${root}/${"x/".repeat(2_000)}a.sh`;
    expect(await outcomes(scripts, long)).toEqual(
      ["list", "read", "launch"].map(() => "path_forbidden path: must have at most 128 parts"),
    );
    // Dots are no parts: what they leave is short.
    expect((await scripts.approve(`${root}/${"x/../".repeat(800)}a.sh`)).path).toBe(join(root, "a.sh"));
  });

  test("may use the operator's path of a root that is a link, or its real path", async () => {
    const { top, root } = makeTree();
    symlinkSync(root, join(top, "link"));
    symlinkSync(join(top, "link", "a.sh"), join(root, "by-link.sh"));
    const scripts = openScripts([join(top, "link")]);
    for (const path of [`${top}/link/a.sh`, `${root}/a.sh`, `${top}/link/by-link.sh`]) {
      expect((await scripts.approve(path)).path, path).toBe(join(root, "a.sh"));
    }
  });

  test("ends at a loop of links with a refusal", async () => {
    const { root, scripts } = makeTree();
    symlinkSync("loop.sh", join(root, "loop.sh"));
    symlinkSync("sub/../ping/x", join(root, "ping"));
    for (const path of [`${root}/loop.sh`, `${root}/ping/a.sh`]) {
      expect((await outcomes(scripts, path))[1], path).toMatch(/^path_forbidden/);
    }
  });
});

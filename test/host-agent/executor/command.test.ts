import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { startHub } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";

const SCRIPTS = "/api/v1/scripts/runs";
const PIPELINES = "/api/v1/pipelines/runs";

const MAY_MOUNT =
  process.getuid?.() === 0 &&
  spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "-o", "noexec", "hub-test", "/mnt"]).status === 0;

const recipe = (recipe_id: string, ...command: string[]) => ({
  recipe_id,
  title: "Job",
  description: "",
  command,
});

describe("a command that cannot run is refused before anything starts", () => {
  test("a script with Windows line endings, with the x bit or without, with an interpreter or without", async () => {
    await using hub = await startHub();
    for (const [name, text, mode] of [
      ["x.sh", "#!/bin/bash\r\necho\r\n", 0o755],
      ["plain.sh", "#!/bin/bash\r\necho\r\n", 0o644],
      ["bare.sh", "set -e\r\necho\r\n", 0o644],
      ["python.sh", "#!/usr/bin/env python3\r\nprint(1)\r\n", 0o755],
    ] as const) {
      const path = join(hub.root, name);
      writeFileSync(path, text, { mode });
      const { status, json } = await hub.post(SCRIPTS, { path });
      expect({ status, code: json.code, detail: json.detail }, name).toEqual({
        status: 422,
        code: "launch_failed",
        detail: expect.stringContaining("it has Windows line endings"),
      });
    }
  });

  test("a recipe whose program has Windows line endings, an interpreter that is missing, or no x bit", async () => {
    const recipes = [
      recipe("crlf", "./crlf"),
      recipe("shell-crlf", "/bin/bash", "crlf"),
      recipe("no-interpreter", "./no-interpreter"),
      recipe("closed-interpreter", "./closed-interpreter"),
      recipe("no-x", "./no-x"),
      recipe("relative", "./relative"),
    ];
    await using hub = await startHub({ recipes });
    const put = (name: string, text: string, mode = 0o755) => {
      writeFileSync(join(hub.dir, name), text);
      chmodSync(join(hub.dir, name), mode);
    };
    put("crlf", "#!/bin/sh\r\necho\r\n");
    put("no-interpreter", "#!/no/such/python -u\n");
    put("closed-interpreter", "#!/etc/passwd\n");
    put("no-x", "#!/bin/sh\n", 0o644);
    put("relative", "#!./sh\necho relative\n");
    symlinkSync("/bin/sh", join(hub.dir, "sh"));

    for (const [recipe_id, detail] of [
      ["crlf", 'program "./crlf" has Windows line endings'],
      ["shell-crlf", 'program "crlf" has Windows line endings'],
      ["no-interpreter", 'the interpreter of "./no-interpreter" "/no/such/python" does not exist'],
      ["closed-interpreter", '"/etc/passwd" is not executable: it has no x bit'],
      ["no-x", 'program "./no-x" is not executable: it has no x bit'],
    ] as const) {
      const { status, json } = await hub.post(PIPELINES, { recipe_id });
      expect({ status, detail: json.detail }).toEqual({
        status: 422,
        detail: expect.stringContaining(detail),
      });
    }
    const { json: run } = await hub.post(PIPELINES, { recipe_id: "relative" });
    expect(await hub.ended(run)).toMatchObject({ status: "completed" });
    expect(await hub.log(run)).toBe("relative\n");
  });
});

describe("a script runs by the interpreter of its first line", () => {
  test.for([
    ["a name beyond ASCII", "josé sh", "#!BASE/josé/sh -e\n"],
    ["a relative name", "rel", "#!./sh -e\n"],
    ["blanks around it", "blank", "#! \t BASE/sh \t-e \t\n"],
  ] as const)("with %s, with the x bit and without", async ([, name, shebang]) => {
    await using hub = await startHub();
    mkdirSync(join(hub.root, "josé"));
    for (const link of ["sh", "josé/sh"]) symlinkSync("/bin/sh", join(hub.root, link));
    for (const mode of [0o755, 0o644]) {
      const path = join(hub.root, `${name}.sh`);
      writeFileSync(path, `${shebang.replace("BASE", hub.root)}echo "$0 $- $*"\n`);
      chmodSync(path, mode);
      const { json: run } = await hub.post(SCRIPTS, { path, args: "a b" });
      expect(await hub.ended(run), JSON.stringify(run)).toMatchObject({ status: "completed" });
      expect(await hub.log(run)).toMatch(/sh e\S* a b\n$/);
    }
  });

  test(
    "on a file system that is mounted noexec",
    needs(MAY_MOUNT, "unshare may not mount here"),
    async () => {
      await using hub = await startHub({ recipes: [recipe("noexec", "scripts/noexec/tool")] });
      const folder = join(hub.root, "noexec");
      mkdirSync(folder);
      execFileSync("mount", ["-t", "tmpfs", "-o", "noexec,size=1m", "hub-test", folder]);
      onTestFinished(() => void spawnSync("umount", [folder]));
      try {
        for (const name of ["job.sh", "tool"]) {
          writeFileSync(join(folder, name), "#!/bin/sh\necho done\n", { mode: 0o755 });
        }
        const { json: run } = await hub.post(SCRIPTS, { path: join(folder, "job.sh") });
        expect(run.cmd).toBe(`/bin/sh ${join(folder, "job.sh")}`);
        expect(await hub.ended(run)).toMatchObject({ status: "completed" });
        const refused = await hub.post(PIPELINES, { recipe_id: "noexec" });
        expect(refused.json.detail).toContain(
          '"scripts/noexec/tool" is on a file system that is mounted noexec',
        );
      } finally {
        execFileSync("umount", [folder]);
      }
    },
  );
});

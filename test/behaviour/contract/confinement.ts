import { execFileSync } from "node:child_process";
import { chmod, mkdir, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type Deploy, type Hub, startHub } from "../../support/hub.ts";
import type { Answer } from "../../support/openapi-check.ts";
import { needs } from "../../support/needs.ts";

const RUNS = "/api/v1/scripts/runs";

/** Nothing but `.sh` files inside the roots can be listed, read or run, and nothing else can be learned. */
export function confinementContract(deploy: Deploy): void {
  describe("script confinement", () => {
    let hub: Hub;
    /** A folder next to the root, whose name begins with the name of the root. */
    let outside: string;
    beforeAll(async () => {
      hub = await startHub({ deploy });
      outside = `${hub.root}-evil`;
      await mkdir(outside);
      await writeScript(join(outside, "evil.sh"), `touch ${outside}/was-here`);
    });
    afterAll(() => hub[Symbol.asyncDispose]());

    const read = (path: string) => hub.get(`/api/v1/scripts/content?path=${encodeURIComponent(path)}`);
    const list = (path: string) => hub.get(`/api/v1/scripts?path=${encodeURIComponent(path)}`);
    const launch = (path: string) => hub.post(RUNS, { path });
    const listed = async (path: string) =>
      (await list(path)).json.scripts.map((script: { path: string }) => script.path) as string[];

    async function expectClosed(path: string): Promise<void> {
      for (const { status, json } of [await read(path), await launch(path)]) {
        expect({ status, code: json.code }, path).toEqual({ status: 403, code: "path_forbidden" });
      }
    }

    test("a folder whose name only begins with the name of a root is outside the roots", async () => {
      await expectClosed(join(outside, "evil.sh"));
      expect((await list(outside)).status).toBe(403);
    });

    test("a symbolic link to a file or folder outside the roots is refused", async () => {
      await symlink(join(outside, "evil.sh"), join(hub.root, "out.sh"));
      await symlink(outside, join(hub.root, "out"));
      await symlink("/etc/passwd", join(hub.root, "passwd.sh"));
      const paths = ["out.sh", "out/evil.sh", "passwd.sh", "out/missing.sh"];
      await Promise.all(paths.map((name) => expectClosed(join(hub.root, name))));
      expect((await list(join(hub.root, "out"))).status).toBe(403);
      const all = await listed(hub.root);
      expect(all.filter((path) => /out|passwd|evil/.test(path.slice(hub.root.length)))).toEqual([]);
    });

    test("a path that leaves the roots through a link and returns reveals nothing about what exists outside", async () => {
      await mkdir(join(outside, "below"));
      await writeFile(join(outside, "there.sh"), "true");
      await symlink(join(outside, "below"), join(hub.root, "through"));
      // The dots are resolved as text: what is left is a path of the root, at which nothing exists.
      const missing = { status: 404, code: "script_not_found" };
      for (const name of ["there.sh", "missing.sh"]) {
        const path = `${hub.root}/through/../${name}`;
        for (const { json } of [await read(path), await launch(path)])
          expect(json, path).toMatchObject(missing);
        await expectClosed(`${hub.root}/through/${name}`);
      }
      for (const name of ["below", "missing"]) {
        expect((await list(`${hub.root}/through/../${name}`)).json).toMatchObject(missing);
      }
    });

    test("a symbolic link inside the roots runs its target", async () => {
      const target = await hub.script("real-target.sh", 'echo "$0"');
      const link = join(hub.root, "link.sh");
      await symlink(target, link);

      const { status, json } = await launch(link);

      expect(status).toBe(201);
      await hub.ended(json);
      expect(await hub.log(json)).toBe(`${target}\n`);
      expect((await read(link)).json.path).toBe(target);
    });

    test("a link to a file that is not a .sh file is refused, whatever the name of the link", async () => {
      await writeFile(join(hub.root, "secret.txt"), "secret");
      await symlink(join(hub.root, "secret.txt"), join(hub.root, "renamed.sh"));
      await expectClosed(join(hub.root, "renamed.sh"));
    });

    test("a dangling link does not reveal whether its target exists", async () => {
      await symlink(join(outside, "missing.sh"), join(hub.root, "dangling.sh"));
      await expectClosed(join(hub.root, "dangling.sh"));
    });

    test("a missing script inside a root answers 404", async () => {
      const path = join(hub.root, "no", "such.sh");
      for (const { json } of [await read(path), await launch(path)]) {
        expect(json).toMatchObject({ status: 404, code: "script_not_found" });
      }
      expect((await list(join(hub.root, "no"))).status).toBe(404);
    });

    test("outside the roots, existing and missing paths get the same answer byte for byte", async () => {
      const scripts = [join(outside, "evil.sh"), join(outside, "none.sh"), "/none/such.sh", "/etc/none.sh"];
      const others = ["/etc/passwd", "/etc/none", "/", "/none", join(hub.root, "..", "keys.json")];
      for (const ask of [read, list, launch]) {
        for (const paths of [scripts, others]) {
          const answers = await Promise.all(paths.map(ask));
          expect(new Set(answers.map(bare)).size).toBe(1);
          expect(answers[0]!.status).toBe(403);
        }
      }
    });

    test("dots in a path are resolved before the path is checked", async () => {
      const script = await hub.script("dots.sh", "true");
      await mkdir(join(hub.root, "sub"), { recursive: true });
      await expectClosed(`${hub.root}/../${outside.split("/").pop()}/evil.sh`);
      expect((await read(`${hub.root}/sub/../dots.sh`)).json.path).toBe(script);
      expect((await read(`${hub.root}//./dots.sh`)).json.path).toBe(script);
    });

    test("a folder and a FIFO named .sh are refused without blocking", async () => {
      await mkdir(join(hub.root, "folder.sh"));
      execFileSync("mkfifo", [join(hub.root, "fifo.sh")]);
      await expectClosed(join(hub.root, "folder.sh"));
      await expectClosed(join(hub.root, "fifo.sh"));
      expect(await listed(hub.root)).not.toContain(join(hub.root, "fifo.sh"));
    });

    test(
      "a script that the host may not read is refused",
      needs(process.getuid?.() !== 0, "root may read every file"),
      async () => {
        const path = await hub.script("closed.sh", "true");
        await chmod(path, 0o000);
        await expectClosed(path);
      },
    );

    test("the script list omits hidden folders, node_modules and files that are not .sh files", async () => {
      const tree = join(hub.root, "tree");
      for (const folder of ["a/b", ".hidden", "node_modules/x"])
        await mkdir(join(tree, folder), { recursive: true });
      const names = [
        "top.sh",
        "a/b/deep.sh",
        ".hidden/no.sh",
        "node_modules/x/no.sh",
        "a/readme.md",
        "a/x.sh.txt",
      ];
      await Promise.all(names.map((name) => writeFile(join(tree, name), "echo")));

      const { json } = await list(tree);

      expect(json).toEqual({
        scripts: ["top.sh", "a/b/deep.sh"].map((name) => ({
          path: join(tree, name),
          name: name.split("/").pop(),
          size: 4,
          modified_at: expect.closeTo(Date.now() / 1000, -2),
        })),
        truncated: false,
      });
    });

    test("a circular link stops neither the script list nor the host", async () => {
      const circle = join(hub.root, "circle");
      await mkdir(circle);
      await symlink(circle, join(circle, "again"));
      await symlink(join(circle, "self.sh"), join(circle, "self.sh"));
      await writeFile(join(circle, "one.sh"), "true");
      expect(await listed(circle)).toEqual([join(circle, "one.sh")]);
      await expectClosed(join(circle, "self.sh"));
    });

    test("a list of more than 1000 scripts reports that it is truncated", async () => {
      const many = join(hub.root, "many");
      await mkdir(many);
      const names = Array.from({ length: 1_001 }, (_, i) => `s${i}.sh`);
      await Promise.all(names.map((name) => writeFile(join(many, name), "")));
      const { json } = await list(many);
      expect(json.scripts).toHaveLength(1_000);
      expect(json.truncated).toBe(true);
    });

    test("the source of a script is shown up to 1 MiB and refused above", async () => {
      const path = await hub.script("large.sh", "true");
      await truncate(path, 1_048_576);
      expect((await read(path)).json.content).toHaveLength(1_048_576);
      await truncate(path, 1_048_577);
      expect((await read(path)).json).toMatchObject({ status: 413, code: "script_too_large" });
    });

    test("binary script content is shown with replacement characters and its real size", async () => {
      const path = join(hub.root, "binary.sh");
      await writeFile(path, Buffer.from([0x61, 0xff, 0x00, 0xc3, 0x62]));
      expect((await read(path)).json).toEqual({ path, content: "a\uFFFD\0\uFFFDb", size: 5 });
    });

    test("a script name with spaces, quotes and non-Latin letters works like any other", async () => {
      const path = await hub.script(`it's "o'clock" $(id) é日.sh`, 'echo "$0"');
      const { status, json } = await launch(path);
      expect(status).toBe(201);
      await hub.ended(json);
      expect(await hub.log(json)).toBe(`${path}\n`);
      expect(await listed(hub.root)).toContain(path);
    });
  });
}

async function writeScript(path: string, text: string): Promise<void> {
  await writeFile(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

/** An answer without what differs from request to request. */
function bare({ status, headers, json }: Answer): string {
  const rest = [...headers].filter(([name]) => !["date", "x-request-id"].includes(name));
  return JSON.stringify({ status, rest, json: { ...json, request_id: "" } });
}

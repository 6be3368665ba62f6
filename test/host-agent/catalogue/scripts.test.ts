import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  linkSync,
  mkdirSync,
  realpathSync,
  renameSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { openScripts } from "../../../host-agent/catalogue/scripts.ts";
import { ApiProblem } from "../../../host-agent/protocol/problem.ts";
import { startHub } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** A FUSE file system whose server has died: every look at it fails with ENOTCONN. */
const MOUNT_DEAD =
  'exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 dead "$1" 2>/dev/null';

/** Makes `path` such a file system until the test has finished. False where nothing may be mounted. */
function mountDead(path: string): boolean {
  const isMounted = spawnSync("/bin/sh", ["-c", MOUNT_DEAD, "sh", path]).status === 0;
  if (isMounted) onTestFinished(() => void execFileSync("umount", [path]));
  return isMounted;
}

/** Tried once, before the tests: what a test needs has to be known then. */
const MAY_MOUNT =
  process.getuid?.() === 0 &&
  spawnSync("unshare", ["--mount", "/bin/sh", "-c", MOUNT_DEAD, "sh", "/mnt"]).status === 0;

describe("a script that cannot be looked at now", () => {
  test(
    "is neither forbidden nor missing: the answer is a 503 that names the error",
    needs(MAY_MOUNT, "unshare may not mount here"),
    async () => {
      const root = realpathSync(tempDir());
      const dead = join(root, "dead");
      mkdirSync(dead);
      expect(mountDead(dead)).toBe(true);
      symlinkSync("dead/a.sh", join(root, "link.sh"));
      const scripts = openScripts([root]);

      for (const use of [
        scripts.approve(join(dead, "a.sh")),
        scripts.read(join(dead, "a.sh")),
        scripts.list(dead),
        scripts.approve(join(root, "link.sh")),
        openScripts([join(dead, "root")]).approve(join(dead, "root", "a.sh")),
      ]) {
        const error = await use.catch((thrown: unknown) => thrown);
        expect(error).toBeInstanceOf(ApiProblem);
        expect(error).toMatchObject({ code: "host_unavailable", extras: { retryAfterSeconds: 10 } });
        expect((error as ApiProblem).message).toContain("ENOTCONN");
      }
      writeFileSync(join(root, "good.sh"), "true");
      expect((await scripts.list()).scripts, "the rest of the list stays").toMatchObject([
        { name: "good.sh" },
      ]);
    },
  );
});

describe("a script that is looked at again after its start", () => {
  test.for<[string, (path: string, dir: string) => void]>([
    ["chmod", (path) => chmodSync(path, 0o755)],
    ["touch", (path) => utimesSync(path, new Date(), new Date())],
    ["a hard link in another folder, as a backup makes", (path, dir) => linkSync(path, join(dir, "backup"))],
    ["a file next to it", (path) => writeFileSync(`${path}.log`, "")],
  ])("is the approved one after %s: no byte has changed", async ([, change]) => {
    expect(await changed(change)).toBe(false);
  });

  test.for<[string, (path: string) => void]>([
    ["an edit of the same length", (path) => writeFileSync(path, "echo two\n")],
    ["a longer text", (path) => writeFileSync(path, "echo three\n")],
    [
      "a replacement with the same text",
      (path) => {
        writeFileSync(`${path}.new`, "echo one\n");
        renameSync(`${path}.new`, path);
      },
    ],
    [
      "a move away and back, in between which another file was run",
      (path) => {
        renameSync(path, `${path}.away`);
        renameSync(`${path}.away`, path);
      },
    ],
  ])("is another one after %s", async ([, change]) => {
    expect(await changed(change)).toBe(true);
  });

  test("goes on when its first line changes the modes of the scripts", async () => {
    await using hub = await startHub();
    const path = await hub.script("self.sh", 'chmod +x *.sh; touch "$0"; chmod u+w "$0"; echo done');
    for (let tries = 0; tries < 8; tries++) {
      const { status, json } = await hub.post("/api/v1/scripts/runs", { path });
      expect(status, json.detail).toBe(201);
      expect(await hub.ended(json)).toMatchObject({ status: "completed" });
    }
  });
});

/** So long that the clock of the file system has moved: on older kernels it moves every 4 ms. */
async function nextTick(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 15));
}

describe("the line `# hub: error-markers off` in a script", () => {
  const loud = 'echo "Error: as expected"';

  test("makes its exit code alone decide", async () => {
    await using hub = await startHub();
    const runs = [
      await hub.runScript(loud),
      await hub.runScript(`# hub: error-markers off\n${loud}`),
      await hub.runScript(`# hub: error-markers off\n${loud}; exit 3`),
      await hub.runScript(`echo "# hub: error-markers off"; ${loud}`),
    ];
    const ended = await Promise.all(runs.map((run) => hub.ended(run)));
    expect(ended.map(({ status, exit_code }) => [status, exit_code])).toEqual([
      ["failed", 0],
      ["completed", 0],
      ["failed", 3],
      ["failed", 0],
    ]);
  });

  test("counts for nothing once it is put into a script that was launched without it", async () => {
    await using hub = await startHub();
    const go = join(hub.dir, "go");
    // After the launch: a script that changes while it is being started is stopped.
    const run = await hub.runScript(
      `until test -e ${go}; do sleep 0.02; done; ${loud}; sed -i '2i # hub: error-markers off' "$0"; sleep 0.3`,
    );
    writeFileSync(go, "");
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 0 });
  });
});

describe("the list of scripts", () => {
  test("leaves out a script whose name is not UTF-8, which no request can name", async () => {
    const root = realpathSync(tempDir());
    writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from("caf\xe9.sh", "latin1")]), "true");
    writeFileSync(join(root, "café.sh"), "true");
    const scripts = openScripts([root]);
    expect((await scripts.list()).scripts.map(({ name }) => name)).toEqual(["café.sh"]);
    await expect(scripts.approve(join(root, "caf\uFFFD.sh"))).rejects.toThrow("no script exists");
  });
});

/** Whether a script counts as another one after `change`. */
async function changed(change: (path: string, dir: string) => void): Promise<boolean> {
  const dir = realpathSync(tempDir());
  const root = join(dir, "root");
  mkdirSync(root);
  const path = join(root, "job.sh");
  writeFileSync(path, "echo one\n");
  const scripts = openScripts([root]);
  const script = await scripts.approve(path);
  await nextTick();
  change(path, dir);
  return !(await scripts.isUnchanged(script));
}

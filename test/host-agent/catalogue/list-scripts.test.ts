import { mkdir, mkdtemp, realpath, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { openScripts } from "../../../host-agent/catalogue/scripts.ts";
import { shareWalks } from "../../../host-agent/catalogue/share-walks.ts";

const OTHER_FILES = 5_000;

async function temporaryRoot(): Promise<string> {
  const root = await realpath(await mkdtemp(join(tmpdir(), "hub-scripts-")));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  return root;
}

test("a folder with a great many other files does not block other requests while it is listed", async () => {
  const root = await temporaryRoot();
  for (let i = 0; i < OTHER_FILES; i++) writeFileSync(join(root, `data-${i}.csv`), "");
  await writeFile(join(root, "job.sh"), "");
  let turns = 0;
  let isOver = false;
  const count = () => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);

  const { scripts: found, truncated } = await openScripts([root]).list();

  isOver = true;
  expect(found.map(({ name }) => name)).toEqual(["job.sh"]);
  expect(truncated).toBe(false);
  expect(turns, "the event loop turns at least once for each thousand files").toBeGreaterThan(
    OTHER_FILES / 1_000,
  );
});

test("scripts are listed by name, folder by folder, without hidden folders and node_modules", async () => {
  const root = await temporaryRoot();
  for (const folder of ["b", "a", ".git", "node_modules"]) await mkdir(join(root, folder));
  for (const name of ["z.sh", "c.sh", "a/2.sh", "a/1.sh", "b/x.txt", ".git/g.sh", "node_modules/n.sh"]) {
    await writeFile(join(root, name), "");
  }
  await symlink("/etc/passwd", join(root, "out.sh"));
  const { scripts } = await openScripts([root]).list();
  expect(scripts.map(({ path }) => path.slice(root.length))).toEqual([
    "/c.sh",
    "/z.sh",
    "/a/1.sh",
    "/a/2.sh",
  ]);
});

test("lists that are asked for at the same time share a walk that began after they were asked for", async () => {
  const begun: { key: string; end: (value: number) => void }[] = [];
  const walks = shareWalks<number>();
  const shared = (key: string) =>
    walks(key, () => new Promise<number>((end) => void begun.push({ key, end })));
  const first = shared("a");
  const others = [shared("a"), shared("a"), shared("a")];
  const elsewhere = shared("b");
  expect(begun.map(({ key }) => key)).toEqual(["a", "b"]);
  begun[0]!.end(1);
  expect(await first).toBe(1);
  await expect.poll(() => begun.length).toBe(3);
  begun[2]!.end(2);
  begun[1]!.end(3);
  expect(await Promise.all([...others, elsewhere])).toEqual([2, 2, 2, 3]);
  void shared("a");
  expect(begun).toHaveLength(4);
});

test("a script of any size is not hashed at every preview: a huge one is refused before it is read", async () => {
  const root = await temporaryRoot();
  const path = join(root, "huge.sh");
  await writeFile(path, "#!/bin/sh\n");
  await truncate(path, 300_000_000);
  await expect(openScripts([root]).approve(path)).rejects.toMatchObject({
    code: "launch_failed",
    message: expect.stringContaining("268435456 bytes"),
  });
});

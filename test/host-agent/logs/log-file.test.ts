import { execFile } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, statSync, symlinkSync, writeSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { expect, test } from "vitest";

import { createLog, readPage, readTail } from "../../../host-agent/logs/log-file.ts";
import { tempDir } from "../../support/temp-dir.ts";

const sourceOf = (name: string) =>
  JSON.stringify(new URL(`../../../host-agent/${name}.ts`, import.meta.url).href);

/** Looks at a log, a process and an exit code before and after all file descriptors are in use. */
const READ_WITHOUT_DESCRIPTORS = `
  import { openSync } from "node:fs";
  import { readExit } from ${sourceOf("executor/run-folder")};
  import { readStat } from ${sourceOf("executor/process-identity")};
  import { hasEnvironmentEntry } from ${sourceOf("executor/process-tree")};
  import { readPage, readTail } from ${sourceOf("logs/log-file")};
  const [path] = process.argv.slice(1);
  const page = () => readPage(path, { after: 0, maxBytes: 9, growing: false });
  const report = async () => {
    for (const read of [
      async () => readTail(path, 9),
      async () => (await page()).size,
      async () => readStat(process.pid).pid === process.pid,
      async () => hasEnvironmentEntry(process.pid, "MARK=1"),
      async () => readExit({ exit: path + ".exit" }).code,
    ]) {
      console.log(await read().catch((error) => error.code));
    }
  };
  await report();
  try { for (;;) openSync("/dev/null"); } catch {}
  await report();
`;

test("no log, process or exit code counts as gone while the host has no free file descriptors", async () => {
  const folder = await mkdtemp(join(tmpdir(), "log-"));
  await writeFile(join(folder, "log"), "hello\n");
  await writeFile(join(folder, "log.exit"), "  3\n");

  const { stdout } = await promisify(execFile)("/bin/sh", [
    "-c",
    'ulimit -n 60; MARK=1 exec "$@"',
    "sh",
    process.execPath,
    "--input-type=module",
    "-e",
    READ_WITHOUT_DESCRIPTORS,
    join(folder, "log"),
  ]);
  expect(stdout).toBe(`hello\n\n6\ntrue\ntrue\n3\n${"EMFILE\n".repeat(5)}`);
  await rm(folder, { recursive: true });
});

test("a log that was copied to another disk is read there, and another file on its own disk is not", async () => {
  const path = join(tempDir(), "log");
  await writeFile(path, "copied\n");
  const { dev, ino } = statSync(path);
  const read = (identity: string) => readPage(path, { after: 0, maxBytes: 99, growing: false, identity });
  expect((await read(`${dev}:${ino}`)).size).toBe(7);
  expect((await read(`${dev}0:${ino + 1}`)).size).toBe(7);
  expect(readTail(path, 99, `${dev}0:${ino + 1}`)).toBe("copied\n");
  await expect(read(`${dev}:${ino + 1}`)).rejects.toMatchObject({ code: "log_gone" });
  expect(readTail(path, 99, `${dev}:${ino + 1}`)).toBe("");
});

test("a log is never created through a link, also when what it leads to does not exist, and never twice", () => {
  const dir = tempDir();
  const outside = join(dir, "outside");
  for (const [name, target] of [
    ["dangling", outside],
    ["existing", dir],
  ] as const) {
    symlinkSync(target, join(dir, name));
    expect(() => createLog(join(dir, name)), name).toThrow(expect.objectContaining({ code: "EEXIST" }));
  }
  expect(existsSync(outside)).toBe(false);

  const path = join(dir, "logs", "run.log");
  createLog(path)[Symbol.dispose]();
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect(() => createLog(path)).toThrow(expect.objectContaining({ code: "EEXIST" }));
});

test("what a run writes goes to the end of its log, whatever another process has written there", () => {
  const path = join(tempDir(), "run.log");
  using log = createLog(path);
  writeSync(log.fd, "one");
  appendFileSync(path, "two");
  writeSync(log.fd, "three");
  expect(readFileSync(path, "utf8")).toBe("onetwothree");
});

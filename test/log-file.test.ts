import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { expect, test } from "vitest";

const LOG_FILE_TS = new URL("../host-agent/log-file.ts", import.meta.url).href;

/** Reads a log before and after all file descriptors are in use. */
const READ_WITHOUT_DESCRIPTORS = `
  import { openSync } from "node:fs";
  import { readPage, readTail } from ${JSON.stringify(LOG_FILE_TS)};
  const [path] = process.argv.slice(1);
  const page = () => readPage(path, { after: 0, maxBytes: 9, growing: false });
  const report = async () => {
    for (const read of [async () => readTail(path, 9), async () => (await page()).size]) {
      console.log(await read().catch((error) => error.code));
    }
  };
  await report();
  try { for (;;) openSync("/dev/null"); } catch {}
  await report();
`;

test("a log is not taken for gone or empty because the host is out of file descriptors", async () => {
  const folder = await mkdtemp(join(tmpdir(), "log-"));
  await writeFile(join(folder, "log"), "hello\n");

  const { stdout } = await promisify(execFile)("/bin/sh", [
    "-c",
    'ulimit -n 60; exec "$@"',
    "sh",
    process.execPath,
    "--input-type=module",
    "-e",
    READ_WITHOUT_DESCRIPTORS,
    join(folder, "log"),
  ]);
  expect(stdout).toBe("hello\n\n6\nEMFILE\nEMFILE\n");
  await rm(folder, { recursive: true });
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { openAdvisoryLock } from "../../../host-agent/store/advisory-lock.ts";
import { tempDir } from "../../support/temp-dir.ts";

const LOCK_TS = new URL("../../../host-agent/store/advisory-lock.ts", import.meta.url).href;

/** Another process that holds the lock until it is ended. */
async function holder(path: string) {
  const program = `
    import { openAdvisoryLock } from ${JSON.stringify(LOCK_TS)};
    openAdvisoryLock(process.argv[1]).hold(async () => {
      console.log("held");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(process.argv[2]));
    });`;
  const start = async (ms: number) => {
    const child = spawn(process.execPath, ["--input-type=module", "-e", program, path, String(ms)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    await once(child.stdout, "data");
    return child;
  };
  return { start };
}

test("an advisory lock waits while another process holds it, and no longer", async () => {
  const path = join(tempDir(), "signals.lock");
  const child = await (await holder(path)).start(300);
  const lock = openAdvisoryLock(path);
  onTestFinished(() => lock.close());
  expect(child.exitCode).toBe(null);

  const ended = once(child, "exit");
  expect(await lock.hold(async () => "mine")).toBe("mine");
  await ended;
});

test("an advisory lock of a process that was killed is free at once", async () => {
  const path = join(tempDir(), "signals.lock");
  const child = await (await holder(path)).start(60_000);
  const lock = openAdvisoryLock(path);
  onTestFinished(() => lock.close());
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await lock.hold(async () => 1)).toBe(1);
});

test("an advisory lock is released when its work throws, and its holders in one process follow each other", async () => {
  const path = join(tempDir(), "signals.lock");
  const lock = openAdvisoryLock(path);
  onTestFinished(() => lock.close());
  const seen: string[] = [];
  const failed = lock.hold(async () => {
    seen.push("first begins");
    await new Promise(setImmediate);
    seen.push("first ends");
    throw new Error("work failed");
  });
  const second = lock.hold(async () => void seen.push("second"));
  await expect(failed).rejects.toThrow("work failed");
  await second;
  expect(seen).toEqual(["first begins", "first ends", "second"]);
  const other = openAdvisoryLock(path);
  onTestFinished(() => other.close());
  expect(await other.hold(async () => "free")).toBe("free");
});

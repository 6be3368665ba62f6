import { readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Deploy, sharedHub, startHub, until } from "../../support/hub.ts";
import { logsOf } from "./logs.ts";
import { watchers } from "./log-watchers.ts";

const GO = "until [ -e go ]; do sleep 0.02; done";

/** Waiting for output, as every deployment does it. */
export function logWaitContract(deploy: Deploy): void {
  describe("waiting for log output", () => {
    const shared = sharedHub({ deploy });

    test("a waiting request answers as soon as the log has more bytes", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(`${GO}; echo news; sleep 600`);
      const started = performance.now();
      const answer = hub.get(`${logsOf(run)}?wait=30`);
      await until(() => watchers(run.log_path)[0]);

      await writeFile(join(hub.root, "go"), "");
      expect((await answer).json).toMatchObject({ chunk: "news\n", offset: 5, size: 5, more: false });
      expect(performance.now() - started).toBeLessThan(15_000);
    });

    test("a waiting request answers when the run ends, after its status is final", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(`${GO}; exit 3`);
      const started = performance.now();
      const answer = hub.get(`${logsOf(run)}?wait=30`);
      await until(() => watchers(run.log_path)[0]);

      await writeFile(join(hub.root, "go"), "");
      expect((await answer).json).toMatchObject({ chunk: "", offset: 0, more: false });
      expect(performance.now() - started).toBeLessThan(15_000);
      expect(await hub.run(run)).toMatchObject({ status: "failed", exit_code: 3 });
    });

    test("a waiting request answers an empty page at its deadline and uses almost no CPU time", async () => {
      const hub = shared();
      const run = await hub.runScript("sleep 600");
      const started = performance.now();
      const answer = hub.get(`${logsOf(run)}?wait=2`);
      const server = await until(() => watchers(run.log_path)[0]);
      const cpuBefore = cpuSeconds(server);

      expect((await answer).json).toMatchObject({ chunk: "", offset: 0, size: 0, more: false });
      expect(performance.now() - started).toBeGreaterThan(1_900);
      expect(cpuSeconds(server) - cpuBefore).toBeLessThan(1);
      expect((await hub.run(run)).status).toBe("running");
    });

    test("wait delays neither existing bytes nor the end of a run that has ended", async () => {
      const hub = shared();
      const live = await hub.runScript("echo there; sleep 600");
      await until(async () => (await hub.get(logsOf(live))).json.size === 6 || undefined);
      const over = await hub.ended(await hub.runScript("echo over"));

      const started = performance.now();
      expect((await hub.get(`${logsOf(live)}?wait=30`)).json.chunk).toBe("there\n");
      expect((await hub.get(`${logsOf(over)}?after=5&wait=30`)).json).toMatchObject({
        chunk: "",
        more: false,
      });
      expect((await hub.get(`${logsOf(live)}?after=7&wait=30`)).status).toBe(416);
      expect(performance.now() - started).toBeLessThan(15_000);
    });

    test("each of many readers of one growing log gets every byte", async () => {
      const hub = shared();
      const run = await hub.runScript('for i in $(seq 20); do echo "línea $i"; sleep 0.02; done');

      const readers = Array.from({ length: 10 }, async () => {
        let text = "";
        for (let offset = 0; ;) {
          const { json } = await hub.get(`${logsOf(run)}?after=${offset}&wait=20`);
          text += json.chunk;
          if (json.chunk === "" && !json.more) return text;
          offset = json.offset;
        }
      });
      const file = async () => readFile((await hub.ended(run)).log_path, "utf8");
      const texts = await Promise.all(readers);
      expect(new Set(texts)).toEqual(new Set([await file()]));
    });
  });
}

/** User and system time of a process (proc_pid_stat(5), fields 14 and 15, in hundredths on Linux). */
function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** For platforms that report the disconnect of a client; workerd behind its local proxy does not. */
export function hangUpContract(deploy: Deploy): void {
  describe("a waiting request", () => {
    test("releases its file watcher when the client disconnects", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript("sleep 600");
      const hangUp = new AbortController();
      const answers = Array.from({ length: 10 }, () =>
        hub.get(`${logsOf(run)}?wait=30`, { signal: hangUp.signal }).catch(() => "hung up"),
      );
      await until(() => watchers(run.log_path)[0]);

      hangUp.abort();
      expect(new Set(await Promise.all(answers))).toEqual(new Set(["hung up"]));
      await until(() => watchers(run.log_path).length === 0 || undefined, 8_000);
      expect((await hub.run(run)).status).toBe("running");
    });
  });
}

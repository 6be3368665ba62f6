import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync, writeSync } from "node:fs";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { startHub, until } from "../../support/hub.ts";

const RUNS = "/api/v1/scripts/runs";

describe("a script that is replaced while it is launched", () => {
  test("by a link out of the roots, in a loop, is refused, stopped, or runs as approved", async () => {
    await using hub = await startHub();
    const outside = join(hub.dir, "outside.sh");
    const mark = join(hub.dir, "outside-finished");
    // It takes a moment, as anything worth attacking with does.
    await writeFile(outside, `#!/bin/sh\nsleep 1\necho ran >>"${mark}"\n`, { mode: 0o755 });
    const path = await hub.script("target.sh", "true");
    await writeFile(join(hub.root, "kept.sh"), await readFile(path), { mode: 0o755 });
    // Another process swaps the two all the time, each time in one step.
    const swapper = spawn(
      process.execPath,
      [
        "-e",
        `const { linkSync, symlinkSync, renameSync } = require("node:fs"); const [path, good, bad] = process.argv.slice(1);
         for (;;) { symlinkSync(bad, path + ".n"); renameSync(path + ".n", path); linkSync(good, path + ".n"); renameSync(path + ".n", path); }`,
        path,
        join(hub.root, "kept.sh"),
        outside,
      ],
      { stdio: "ignore" },
    );
    const answers: number[] = [];
    try {
      for (let tries = 0; tries < 25; tries++) answers.push((await hub.post(RUNS, { path })).status);
    } finally {
      swapper.kill("SIGKILL");
    }
    for (const status of answers) expect([201, 403, 404, 422]).toContain(status);
    await until(async () => (await hub.get(`${RUNS}?status=running`)).json.runs.length === 0 || undefined);
    expect(existsSync(mark), "no script from outside came to its end").toBe(false);
  });

  test("in place, during its check, is refused, and its started run is stopped", async () => {
    await using hub = await startHub();
    const mark = join(hub.dir, "finished");
    // So long that the look takes more than one turn of the event loop.
    const path = await hub.script(
      "long.sh",
      `sleep 5; echo one >${mark}; exit\n${"#".repeat(48 * 1_048_576)}`,
    );
    const answer = hub.post(RUNS, { path }, { headers: { "idempotency-key": "k" } });
    await opened(path);
    edit(path, "#!/bin/bash\n".length, "sleep 6; echo two");
    const { status, json } = await answer;

    expect({ status, code: json.code }).toEqual({ status: 422, code: "launch_failed" });
    expect(json.detail).toContain("changed while it was being started");
    const { runs } = (await hub.get(RUNS)).json;
    expect(runs).toMatchObject([{ status: "failed" }]);
    expect(processesOf(runs[0].run_id)).toEqual([]);
    expect(existsSync(mark)).toBe(false);
    await hub.script("long.sh", "true");
    const again = await hub.post(RUNS, { path }, { headers: { "idempotency-key": "k" } });
    expect(again.status, "the key is free").toBe(201);
    await hub.ended(again.json);
  });

  test("in place, in a loop, is launched or refused, and a refused run does not go on", async () => {
    await using hub = await startHub();
    const path = await hub.script("edited.sh", "word=one; sleep 3; echo $word");
    // The kernel runs no file that is open for writing (ETXTBSY): without the x bit, bash reads it.
    await chmod(path, 0o644);
    const editor = spawn(
      process.execPath,
      [
        "-e",
        `const { openSync, writeSync } = require("node:fs"); const [path, at] = process.argv.slice(1);
         const file = openSync(path, "r+"); for (;;) for (const word of ["two", "one"]) writeSync(file, word, Number(at));`,
        path,
        String(readFileSync(path, "latin1").indexOf("one")),
      ],
      { stdio: "ignore" },
    );
    const hashes = ["one", "two"].map((word) => sha256(`#!/bin/bash\nword=${word}; sleep 3; echo $word\n`));
    const answers: { status: number; json: { spec_sha256: string } }[] = [];
    try {
      for (let tries = 0; tries < 12; tries++) answers.push(await hub.post(RUNS, { path }));
      expect(editor.exitCode, "it edited all the time").toBeNull();
    } finally {
      editor.kill("SIGKILL");
    }
    await until(async () => (await hub.get(`${RUNS}?status=running`)).json.runs.length === 0 || undefined);
    expect(answers.map(({ status }) => status)).toContain(422);
    for (const { status, json } of answers) {
      expect([422, 201]).toContain(status);
      expect([undefined, ...hashes]).toContain(json.spec_sha256);
    }
    const { runs } = (await hub.get(RUNS)).json;
    const refused = runs.filter((run: RunRecord) => run.status_reason.includes("was changed"));
    expect(refused).toHaveLength(answers.filter(({ status }) => status === 422).length);
    for (const run of refused) expect(await hub.log(run)).not.toMatch(/^(?:one|two)$/m);
  });

  test("in place, after its check, runs with the new text under the approved hash", async () => {
    await using hub = await startHub();
    const go = join(hub.dir, "go");
    // Further on than what a shell reads ahead.
    const text = `until test -e ${go}; do sleep 0.02; done\n${"#".repeat(200_000)}\necho one`;
    const path = await hub.script("waits.sh", text);
    const approved = sha256(readFileSync(path, "latin1"));
    const { json: run } = await hub.post(RUNS, { path });
    edit(path, readFileSync(path, "latin1").indexOf("echo one"), "echo two");
    await writeFile(go, "");
    expect(await hub.ended(run)).toMatchObject({ status: "completed", spec_sha256: approved });
    expect(await hub.log(run)).toBe("two\n");
  });
});

/** Changes the bytes of a file where they are: it stays the same file, of the same size. */
function edit(path: string, at: number, to: string): void {
  const file = openSync(path, "r+");
  writeSync(file, to, at);
  closeSync(file);
}

/** Resolves while this process, in which the agent is, has the file open. */
async function opened(path: string): Promise<void> {
  const isOpen = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  };
  while (!readdirSync("/proc/self/fd").some(isOpen)) await new Promise(setImmediate);
}

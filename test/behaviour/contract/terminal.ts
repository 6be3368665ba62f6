import { statSync } from "node:fs";

import { describe, expect, test } from "vitest";

import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { type Deploy, sharedHub, startHub, until } from "../../support/hub.ts";

/** More than a terminal holds: the rest waits for a reader. */
const BURST_BYTES = 20_480;

const TTY = '[ -t 1 ] && [ -t 2 ] && echo "a terminal" || echo "no terminal"';

/** Terminal mode, as every deployment does it. */
export function terminalContract(deploy: Deploy): void {
  describe("terminal mode", () => {
    const shared = sharedHub({ deploy });

    test("only a recipe or a launch that requests a terminal gets one", async () => {
      const recipe = { title: "T", description: "", command: ["/bin/sh", "-c", TTY] };
      const recipes = [
        { recipe_id: "with", ...recipe, terminal: true },
        { recipe_id: "without", ...recipe },
      ];
      await using hub = await startHub({ deploy, recipes });
      const launch = async (body: object) =>
        (await hub.post("/api/v1/pipelines/runs", body)).json as RunRecord;
      const runs: [RunRecord, string][] = [
        [await launch({ recipe_id: "with" }), "a terminal\n"],
        [await launch({ recipe_id: "with", terminal: false }), "no terminal\n"],
        [await launch({ recipe_id: "without" }), "no terminal\n"],
        [await launch({ recipe_id: "without", terminal: true }), "a terminal\n"],
        [await hub.runScript(TTY, { terminal: true }), "a terminal\n"],
        [await hub.runScript(TTY), "no terminal\n"],
      ];

      for (const [run, expected] of runs) {
        expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0 });
        expect(await hub.log(run), `with ${run.cmd}`).toBe(expected);
      }
    });

    test("a program that buffers its output to files shows each line at once in a terminal", async () => {
      const hub = shared();
      const run = await hub.runScript("(echo 'one line'; sleep 600) | grep one", { terminal: true });

      await until(async () => (await hub.log(run)) === "one line\n" || undefined);
      expect((await hub.run(run)).status).toBe("running");
    });

    test("the log has exactly the bytes that the command wrote to its terminal", async () => {
      const hub = shared();
      const script = String.raw`printf 'a\nb\r\nc\td\xff\xc3\xe4\0\033[1mé한😀 no newline'`;
      const run = await hub.ended(await hub.runScript(script, { terminal: true }));
      const plain = await hub.ended(await hub.runScript(script));

      const [{ bytes }, expected] = await Promise.all([rawLog(run), rawLog(plain)]);
      expect([...bytes]).toEqual([...expected.bytes]);
      expect(bytes.length).toBeGreaterThan(30);

      function rawLog({ run_id }: RunRecord) {
        return hub.get(`/api/v1/scripts/runs/${run_id}/logs`, { headers: { accept: "text/plain" } });
      }
    });

    test.for<[string, Partial<RunRecord>]>([
      ["exit 0", { status: "completed", exit_code: 0, signal: null }],
      ["exit 41", { status: "failed", exit_code: 41, signal: null }],
      ["kill -TERM $$", { status: "failed", exit_code: 143, signal: "SIGTERM" }],
      ["kill -KILL $$", { status: "failed", exit_code: 137, signal: "SIGKILL" }],
      ["echo 'Traceback (most recent call last):'", { status: "failed", exit_code: 0, signal: null }],
    ])("a command that ends with %s has the same end with a terminal", async ([script, expected]) => {
      const hub = shared();
      expect(await hub.ended(await hub.runScript(script, { terminal: true }))).toMatchObject(expected);
    });

    test("a run with a terminal has the same arguments, working folder and environment as without", async () => {
      const hub = shared();
      const script = `printf '<%s>' "$@"; pwd; env | grep -v -e ^HUB_RUN_ID= -e ^SHLVL= -e ^_= | sort`;
      const args = `a 'b c' '$HOME' ";" '' "quo'te" -- -x`;
      const run = await hub.ended(await hub.runScript(script, { args, terminal: true }));
      const plain = await hub.ended(await hub.runScript(script, { args }));

      expect(await hub.log(run)).toBe(await hub.log(plain));
      expect(run.cmd.replace(/\/job\w+/, "")).toBe(plain.cmd.replace(/\/job\w+/, ""));
    });

    test("20 concurrent runs with a terminal lose no byte of 20 KB each", async () => {
      const hub = shared();
      const path = await hub.script("burst.sh", `printf %0${BURST_BYTES}d 0`);
      const runs = await Promise.all(
        Array.from({ length: 20 }, async () => {
          const { json } = await hub.post("/api/v1/scripts/runs", { path, terminal: true });
          const ended = await hub.ended(json);
          // At once: a client that sees the end need not ask again for the rest.
          expect(statSync(ended.log_path).size).toBe(BURST_BYTES);
          return ended;
        }),
      );

      for (const run of runs) {
        expect(run).toMatchObject({ status: "completed", exit_code: 0 });
        expect((await hub.log(run)).length).toBe(BURST_BYTES);
      }
      expect(new Set(runs.map((run) => run.log_path)).size).toBe(20);
    });

    test("a kill reaches the whole process tree of a run with a terminal", async () => {
      const hub = shared();
      const run = await hub.runScript(
        `trap 'echo bye; exit 12' TERM; setsid sleep 600 & env -i /bin/sleep 600 & echo ready; while :; do sleep 0.02; done`,
        { terminal: true },
      );
      await until(async () => (await hub.log(run)).includes("ready") || undefined);

      await hub.kill(run);
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 12 });
      expect(await hub.log(run)).toMatch(/bye\n$/);
      expect(processesOf(run.run_id)).toEqual([]);
    });

    test("a run with a terminal goes on during a restart of the server", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(
        "echo before; until [ -e go ]; do sleep 0.02; done; echo after; exit 8",
        {
          terminal: true,
        },
      );
      await until(async () => (await hub.log(run)) === "before\n" || undefined);

      await hub.restart();
      expect((await hub.run(run)).status).toBe("running");
      await hub.script("go", "");
      expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 8 });
      expect(await hub.log(run)).toBe("before\nafter\n");
    });
  });
}

import { execFile } from "node:child_process";
import { copyFile, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { describe, expect, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { startHub } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { cli, clientEnv } from "./cli.ts";

const RUN_ID = /run_[0-9a-f]{12}/;

describe("hub", () => {
  test("hub recipes prints a table and, with --json, the API's answer", async () => {
    await using hub = await startHub();

    const table = await cli(hub, ["recipes"]);
    const json = await cli(hub, ["recipes", "--json"]);

    expect(table).toMatchObject({ code: 0, stderr: "" });
    expect(table.stdout).toBe("RECIPE  TITLE  DESCRIPTION\nhello   Hello  Says hello to its arguments\n");
    expect(JSON.parse(json.stdout)).toEqual((await hub.get("/api/v1/pipelines/recipes")).json);
  });

  test("hub recipes reports a broken recipes file, and an empty one as empty", async () => {
    await using hub = await startHub();
    await writeFile(hub.recipesFile, "{ broken");
    const kept = await cli(hub, ["recipes"]);
    await hub.restart();
    const broken = await cli(hub, ["recipes"]);
    await writeFile(hub.recipesFile, '{"recipes": []}');
    const empty = await cli(hub, ["recipes"]);

    const says = expect.stringMatching(/^hub: the Hub reports: .*recipes file is missing or malformed/);
    expect(kept).toEqual({ code: 0, stdout: expect.stringContaining("hello"), stderr: says });
    expect(broken).toEqual({ code: 69, stdout: "", stderr: says });
    expect(empty).toEqual({ code: 0, stdout: "", stderr: "This Hub has no recipes.\n" });
  });

  test("hub run prints only the run's id on stdout, and on stderr how to follow it", async () => {
    await using hub = await startHub();

    const launched = await cli(hub, ["run", "hello", "--", "big", "wide world"]);
    const run = { source: "pipeline", run_id: launched.stdout.trim() } as const;

    expect(launched.code).toBe(0);
    expect(launched.stdout).toMatch(/^run_[0-9a-f]{12}\n$/);
    expect(launched.stderr).toContain(`hub logs ${run.run_id} -f`);
    await hub.ended(run);
    expect(await hub.log(run)).toBe("hello big wide world\n");
    expect((await cli(hub, ["runs"])).stdout).toMatch(/ hello big 'wide world'\n$/);
  });

  test("hub lists, reads and launches a script by its path", async () => {
    await using hub = await startHub();
    const path = await hub.script("my job.sh", 'echo "one $1"');

    const [list, source, ran] = await Promise.all([
      cli(hub, ["scripts", hub.root]),
      cli(hub, ["cat", path]),
      cli(hub, ["script", path, "-f", "--", "$HOME; *"]),
    ]);

    expect(list.stdout).toContain(`${path}  `);
    expect(source.stdout).toBe('#!/bin/bash\necho "one $1"\n');
    expect(ran).toMatchObject({ code: 0, stdout: "one $HOME; *\n" });
  });

  test("hub finds a script by its name or the end of its path, and never guesses between two", async () => {
    await using hub = await startHub();
    await mkdir(`${hub.root}/a`);
    await mkdir(`${hub.root}/b`);
    const one = await hub.script("a/job.sh", "echo one");
    await hub.script("b/job.sh", "echo two");
    await hub.script("b/my-only.sh", "echo only");

    const [only, cat, ambiguous, none, part] = await Promise.all([
      cli(hub, ["script", "my-only.sh", "-f"]),
      cli(hub, ["cat", "a/job.sh"]),
      cli(hub, ["script", "job.sh"]),
      cli(hub, ["script", "nope.sh"]),
      cli(hub, ["script", "only.sh"]),
    ]);

    expect(only).toMatchObject({ code: 0, stdout: "only\n" });
    expect(cat.stdout).toBe("#!/bin/bash\necho one\n");
    expect(ambiguous).toMatchObject({ code: 64, stderr: expect.stringContaining(`ambiguous: ${one}, `) });
    expect(none).toMatchObject({ code: 69, stderr: expect.stringContaining("ends with /nope.sh") });
    expect(part.code).toBe(69);
    expect((await hub.get("/api/v1/scripts/runs")).json.runs).toHaveLength(1);
  });

  test("hub runs lists both surfaces, newest first, and hub show finds a run by the beginning of its id", async () => {
    await using hub = await startHub();
    const pipeline = (await hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" })).json as RunRecord;
    const script = await hub.runScript("exit 3");
    await Promise.all([hub.ended(pipeline), hub.ended(script)]);

    const [all, failed, shown, one, none] = await Promise.all([
      cli(hub, ["runs", "--json"]),
      cli(hub, ["runs", "--status", "failed"]),
      cli(hub, ["show", script.run_id.slice(0, -1)]),
      cli(hub, ["show", pipeline.run_id, "--json"]),
      cli(hub, ["show", "run_ffffffffffff"]),
    ]);

    const listed = (JSON.parse(all.stdout) as { runs: RunRecord[] }).runs;
    expect(listed.map(({ run_id }) => run_id).toSorted()).toEqual(
      [pipeline.run_id, script.run_id].toSorted(),
    );
    expect(failed.stdout).toContain(script.run_id);
    expect(failed.stdout).not.toContain(pipeline.run_id);
    expect(shown.stdout).toMatch(/status +failed\n/);
    expect(shown.stdout).toMatch(/exit code +3\n/);
    expect(JSON.parse(one.stdout)).toEqual(await hub.run(pipeline));
    expect(none).toMatchObject({
      code: 69,
      stderr: expect.stringContaining("run run_ffffffffffff does not exist"),
    });
  });

  test("hub runs with a key for one surface lists that surface and reports the missing scope of the other", async () => {
    const key = {
      name: "half",
      key: "sk_test_half_0123456789abcdef",
      scopes: ["scripts:read" as const, "scripts:write" as const],
    };
    await using hub = await startHub({ keys: [key] });
    const { run_id } = (
      await hub.post("/api/v1/scripts/runs", { path: await hub.script("a.sh", "true") }, { key: key.key })
    ).json;
    const env = { HUB_KEY: key.key };

    const [list, shown] = await Promise.all([
      cli(hub, ["runs"], { env }),
      cli(hub, ["show", run_id], { env }),
    ]);

    expect(list.code).toBe(0);
    expect(list.stdout).toContain(run_id);
    expect(list.stderr).toContain("pipelines:read");
    expect(shown.code).toBe(0);
  });

  test("hub kill stops all processes of a run, and reports a run that has already ended", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("sleep 300");

    const killed = await cli(hub, ["kill", run.run_id, "--signal", "SIGKILL"]);
    const again = await cli(hub, ["kill", run.run_id, "--json"]);
    const ended = await hub.runScript("true");
    await hub.ended(ended);
    const late = await cli(hub, ["kill", ended.run_id]);

    expect(killed.code).toBe(0);
    expect(killed.stdout).toContain(run.run_id);
    expect((JSON.parse(again.stdout) as RunRecord).status).toBe("killed");
    expect(late).toMatchObject({ code: 69, stderr: expect.stringContaining("run_ended") });
  });

  test("hub logs prints all of a log or its last lines, in the log's own bytes", async () => {
    await using hub = await startHub();
    const run = await hub.runScript(String.raw`seq 1 60000; printf 'a\377\303b\0 é한😀\nno newline'`);
    await hub.ended(run);
    const size = 348_894 + 15 + 10;

    const all = await cli(hub, ["logs", run.run_id]);
    const tails = await Promise.all(
      [0, 1, 2, 3].map(async (n) => (await cli(hub, ["logs", run.run_id, "--tail", String(n)])).stdout),
    );
    const far = await cli(hub, ["logs", run.run_id, "--tail", "50000"]);

    expect(all.stdout.startsWith("1\n2\n3\n")).toBe(true);
    expect(all.stdout.endsWith("60000\na\uFFFD\uFFFDb\0 é한😀\nno newline")).toBe(true);
    expect(size).toBeGreaterThan(262_144);
    expect(tails).toEqual([
      "",
      "no newline",
      "a\uFFFD\uFFFDb\0 é한😀\nno newline",
      "60000\na\uFFFD\uFFFDb\0 é한😀\nno newline",
    ]);
    expect(far.stdout.split("\n", 1)).toEqual(["10003"]);
  });

  test("hub logs reports why a run was never started, in place of a log that was never written", async () => {
    const broken = { recipe_id: "broken", title: "B", description: "", command: ["no-such-program"] };
    await using hub = await startHub({ recipes: [broken] });
    await hub.post("/api/v1/pipelines/runs", { recipe_id: "broken" });
    const { run_id } = (await hub.get("/api/v1/pipelines/runs")).json.runs[0];

    const [all, tail, followed] = await Promise.all([
      cli(hub, ["logs", run_id]),
      cli(hub, ["logs", run_id, "--tail", "5"]),
      cli(hub, ["logs", run_id, "-f"]),
    ]);

    const why = expect.stringMatching(new RegExp(`^hub: ${run_id} was never started: .*no-such-program`));
    expect([all, tail]).toEqual([
      { code: 0, stdout: "", stderr: why },
      { code: 0, stdout: "", stderr: why },
    ]);
    expect(followed).toEqual({ code: 70, stdout: "", stderr: why });
  });

  test("npx in a clone starts hub with the clone's own Node, and hub names itself hub", async () => {
    await using hub = await startHub();
    const npx = (...words: string[]) =>
      promisify(execFile)("npx", ["--no", "--", "hub", ...words], {
        cwd: fileURLToPath(new URL("../../..", import.meta.url)),
        env: clientEnv(hub),
      });

    const { version } = JSON.parse(await readFile(new URL("../../../package.json", import.meta.url), "utf8"));
    expect((await npx("--version")).stdout).toBe(`${version}\n`);
    expect((await hub.get("/openapi.json")).json.info.version).toBe(version);
    expect((await npx("run", "hello")).stderr).toContain("follow it: hub logs run_");
  });

  test("./hub of a clone starts the clone's hub from any folder, also by a link", async () => {
    const wrapper = fileURLToPath(new URL("../../../hub", import.meta.url));
    const folder = tempDir();
    await symlink(wrapper, `${folder}/linked`);
    for (const path of [wrapper, `${folder}/linked`]) {
      const { stdout } = await promisify(execFile)(path, ["--version"], {
        cwd: "/",
        env: { PATH: "/usr/bin:/bin" },
      });
      expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    }
    await copyFile(wrapper, `${folder}/hub`);
    await expect(promisify(execFile)(`${folder}/hub`)).rejects.toMatchObject({
      code: 69,
      stderr: `hub: run \`npm ci\` in ${folder} first\n`,
    });
  });

  test("hub open prints the console's address without the key", async () => {
    const opened = await cli("http://127.0.0.1:1", ["open"]);

    expect(opened).toEqual({ code: 0, stdout: "http://127.0.0.1:1/console\n", stderr: "" });
  });

  test("every command of hub has --help with an example, and is in the help of hub", async () => {
    const names =
      "recipes run scripts cat script runs show logs kill wait open login logout hosts completion".split(" ");
    const help = await cli("http://127.0.0.1:1", ["--help"]);
    for (const name of names) {
      expect(help.stdout).toMatch(new RegExp(`^  ${name}\\b`, "m"));
    }
    const pages = await Promise.all(names.map((name) => cli("http://127.0.0.1:1", [name, "--help"])));
    for (const [i, page] of pages.entries()) {
      expect(page.code).toBe(0);
      expect(page.stdout).toContain("--json");
      expect(page.stdout).toMatch(new RegExp(`Example:\\n  \\$ .*hub ${names[i]!}`));
    }
    expect(help.stdout).not.toMatch(RUN_ID);
  });
});

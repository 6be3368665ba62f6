import { execFileSync } from "node:child_process";
import { chmod, mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { basename, dirname, join } from "node:path";

import { describe, expect, test } from "vitest";

import { buildEnvironment } from "../../../host-agent/executor/environment.ts";
import { ALL, type Deploy, sharedHub, startHub } from "../../support/hub.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";

/** Prints its arguments as a line of JSON. Runs through its shebang: no shell comes between. */
const PRINT_ARGV = `#!${process.execPath}\nconsole.log(JSON.stringify(process.argv.slice(2)));\n`;

const sayWhoAndWhere = (shebang: string) => `${shebang}echo "\${BASH_VERSION:+bash} \${PWD} $*"\n`;

const DOCUMENTED_FIELDS = [
  "cmd",
  "ended_at",
  "key_name",
  "log_path",
  "pid",
  "run_id",
  "source",
  "spec",
  "started_at",
  "status",
];
const FURTHER_FIELDS = ["exit_code", "label", "signal", "spec_sha256", "status_reason"];

/** Launching, as every deployment does it. */
export function launchContract(deploy: Deploy): void {
  describe("launch", () => {
    const shared = sharedHub({ deploy });
    /** Nothing is ever started there. */
    const idle = sharedHub({ deploy });

    test("a recipe runs as a real process and returns its log and exit code", async () => {
      const hub = shared();

      const launched = await hub.post(PIPELINES, { recipe_id: "hello", args: "big 'wide world'" });

      expect(launched.status).toBe(201);
      expect(launched.headers.get("location")).toBe(`${PIPELINES}/${launched.json.run_id}`);
      expect(launched.json).toMatchObject({
        source: "pipeline",
        spec: { recipe_id: "hello", args: "big 'wide world'" },
        cmd: `/bin/sh -c 'echo "hello $*"' hello big 'wide world'`,
        key_name: ALL.name,
      });
      expect(await hub.ended(launched.json)).toMatchObject({
        status: "completed",
        exit_code: 0,
        signal: null,
      });
      expect(await hub.log(launched.json)).toBe("hello big wide world\n");
    });

    test("a record has the documented fields and five more, during the run and after it", async () => {
      const hub = shared();
      const before = Math.floor(Date.now() / 1000);
      const path = await hub.script("job.sh", 'until [ -e "$1" ]; do sleep 0.02; done');
      const go = join(hub.dir, "go");

      const { status, json, headers } = await hub.post(SCRIPTS, { path, args: go });

      expect(status).toBe(201);
      expect(headers.get("location")).toBe(`${SCRIPTS}/${json.run_id}`);
      expect(Object.keys(json).toSorted()).toEqual([...DOCUMENTED_FIELDS, ...FURTHER_FIELDS].toSorted());
      expect(json).toMatchObject({
        run_id: expect.stringMatching(/^run_[0-9a-f]{12}$/),
        source: "script",
        spec: { path, args: go },
        pid: expect.stringMatching(/^[1-9]\d*$/),
        cmd: `${path} ${go}`,
        ended_at: null,
        status: "running",
        status_reason: "The process is alive.",
        exit_code: null,
        signal: null,
        spec_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        key_name: ALL.name,
      });
      expect(json.started_at).toBeGreaterThanOrEqual(before);
      expect(json.started_at).toBeLessThanOrEqual(Date.now() / 1000);
      expect(await readFile(`/proc/${json.pid}/environ`, "latin1")).toContain(`HUB_RUN_ID=${json.run_id}\0`);
      expect(await hub.run(json)).toEqual(json);

      await writeFile(go, "");
      const ended = await hub.ended(json);
      expect(ended).toEqual({
        ...json,
        status: "completed",
        status_reason: "The command exited with code 0.",
        exit_code: 0,
        ended_at: ended.ended_at,
      });
      expect(ended.ended_at).toBeGreaterThanOrEqual(json.started_at);
      expect(ended.ended_at).toBeLessThanOrEqual(Date.now() / 1000);
    });

    test("a script runs in its own folder, by its interpreter, with or without the x bit, and with bash if it names none", async () => {
      const hub = shared();
      await mkdir(join(hub.root, "deep folder"));
      const expected = `bash ${join(hub.root, "deep folder")} a b\n`;
      async function output(name: string, content: string, mode: number): Promise<[string, string]> {
        const path = await hub.script(join("deep folder", name), `#!\n`);
        await writeFile(path, content);
        await chmod(path, mode);
        const { json } = await hub.post(SCRIPTS, { path, args: "a b" });
        await hub.ended(json);
        return [await hub.log(json), json.cmd];
      }

      // A cat as the interpreter shows the script's own text.
      const [catLog, catCmd] = await output("cat.sh", sayWhoAndWhere("#!/bin/cat\n"), 0o755);
      expect(catLog).toContain(sayWhoAndWhere("#!/bin/cat\n"));
      expect(catCmd).toBe(`'${join(hub.root, "deep folder", "cat.sh")}' a b`);
      const [plainLog, plainCmd] = await output("plain.sh", sayWhoAndWhere("#!/bin/cat\n"), 0o644);
      expect(plainLog).toContain(sayWhoAndWhere("#!/bin/cat\n"));
      expect(plainCmd).toBe(`/bin/cat '${join(hub.root, "deep folder", "plain.sh")}' a b`);
      expect((await output("plain-bash.sh", sayWhoAndWhere(""), 0o644))[0]).toBe(expected);
      expect((await output("bare.sh", sayWhoAndWhere(""), 0o755))[0]).toBe(expected);
      expect((await output("empty-shebang.sh", sayWhoAndWhere("#!\n"), 0o755))[0]).toBe(expected);
    });

    test("the command receives exactly the given arguments, and no shell evaluates them", async () => {
      const hub = shared();
      const path = await hub.script("argv.sh", PRINT_ARGV);
      const args = [
        String.raw`;id && true | cat > x & $(id) $HOME ${"${PATH}"} \`id\` * ? [a-z] ~ ~root {a,b} # !! -rf -- --`,
        String.raw`'single $quoted;' "double \"quoted\" \$x" "" '' a\ b a''b"c" \\ "\n"`,
        `"new\nline" 'and\ttab' é한😀 'ünï côdé' __proto__ constructor`,
      ].join(" \t\n ");

      const { status, json } = await hub.post(SCRIPTS, { path, args });

      expect(status).toBe(201);
      await hub.ended(json);
      const operators = [";id", "&&", "true", "|", "cat", ">", "x", "&"];
      const expansions = ["$(id)", "$HOME", "${PATH}", "`id`", "*", "?", "[a-z]", "~", "~root", "{a,b}"];
      const others = ["#", "!!", "-rf", "--", "--"];
      const quoted = ["single $quoted;", 'double "quoted" $x', "", "", "a b", "abc", "\\", "\\n"];
      const unusual = ["new\nline", "and\ttab", "é한😀", "ünï côdé", "__proto__", "constructor"];
      const expected = [operators, expansions, others, quoted, unusual].flat();
      expect(JSON.parse(await hub.log(json))).toEqual(expected);
    });

    test("cmd can be pasted into a shell to run the same command", async () => {
      const hub = shared();
      const path = await hub.script("argv.sh", PRINT_ARGV);
      const { json } = await hub.post(SCRIPTS, { path, args: `a "it's" '$(id)' "" '*' é "new\nline" --x=1` });
      await hub.ended(json);

      expect(json.cmd).toBe(`${path} a 'it'\\''s' '$(id)' '' '*' 'é' 'new\nline' --x=1`);
      expect(execFileSync("/bin/sh", ["-c", json.cmd], { encoding: "utf8" })).toBe(await hub.log(json));
    });

    test.for([
      ["a single quote", "don't"],
      ["a double quote", 'say "hi'],
      ["an escaping backslash at the end", "a\\"],
      ["a NUL", "a\0b"],
    ])("args with an incomplete %s answer 422 and name body.args", async ([, args]) => {
      const hub = idle();
      const path = await hub.script("job.sh", "true");
      for (const [surface, spec] of [
        [PIPELINES, { recipe_id: "hello" }],
        [SCRIPTS, { path }],
      ] as const) {
        const { status, json } = await hub.post(surface, { ...spec, args });
        expect(status).toBe(422);
        expect(json).toMatchObject({ code: "invalid_request", errors: [{ path: "body.args" }] });
        expect((await hub.get(surface)).json.runs).toEqual([]);
      }
    });

    test("a run gets the built environment and that of its recipe, and nothing of the server's environment", async () => {
      await using hub = await startHub({
        deploy,
        env: {
          TZ: "Asia/Kolkata",
          LC_MESSAGES: "C",
          AWS_SECRET_ACCESS_KEY: "secret-of-the-server",
          DATABASE_URL: "postgres://secret-of-the-server",
          NODE_ENV: "secret-of-the-server",
          LCX: "secret-of-the-server",
          USER: "secret-of-the-server",
        },
        recipes: [
          {
            recipe_id: "show-env",
            title: "Environment",
            description: "Prints its environment",
            command: ["env", "-0"],
            env: { GREETING: "hello there\nall", HUB_RUN_ID: "run_of_somebody_else", TERM: "vt100" },
          },
        ],
      });
      const { json } = await hub.post(PIPELINES, { recipe_id: "show-env" });
      await hub.ended(json);
      const log = await hub.log(json);
      const seen = Object.fromEntries(
        log
          .split("\0")
          .filter(Boolean)
          .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
      );

      expect(log).not.toContain("secret-of-the-server");
      const { username, homedir, shell } = userInfo();
      expect({ ...seen, PWD: "set by the shell" }).toEqual({
        PATH: buildEnvironment(hub.env, "")["PATH"],
        HOME: homedir,
        USER: username,
        LOGNAME: username,
        SHELL: shell ?? "/bin/sh",
        LANG: "C.UTF-8",
        LC_MESSAGES: "C",
        TZ: "Asia/Kolkata",
        TERM: "vt100",
        NO_COLOR: "1",
        PYTHONUNBUFFERED: "1",
        PAGER: "cat",
        GIT_PAGER: "cat",
        GIT_TERMINAL_PROMPT: "0",
        SSH_ASKPASS: "/bin/false",
        SSH_ASKPASS_REQUIRE: "force",
        GREETING: "hello there\nall",
        HUB_RUN_ID: json.run_id,
        PWD: "set by the shell",
      });

      const script = await hub.runScript('env; echo "TERM=$TERM"');
      await hub.ended(script);
      const scriptLog = await hub.log(script);
      expect(scriptLog).toContain("TERM=dumb\n");
      expect(scriptLog).not.toContain("secret-of-the-server");
      const names = scriptLog.split("\n").map((line) => line.split("=", 1)[0]!);
      expect(names.filter((name) => name.startsWith("HUB_"))).toEqual(["HUB_RUN_ID"]);
    });

    test("a log file is named after the run and its start time, with a suffix for a second run in the same second", async () => {
      await using hub = await startHub({ deploy });
      const path = await hub.script("my job.sh", "true");
      const runs = await Promise.all(
        Array.from({ length: 6 }, async (_, index) => {
          const { json } = await (index % 2
            ? hub.post(SCRIPTS, { path })
            : hub.post(PIPELINES, { recipe_id: "hello" }));
          return json;
        }),
      );

      for (const run of runs) {
        const name = run.source === "script" ? "my_job" : "hello";
        const moment = execFileSync("date", ["-d", `@${run.started_at}`, "+%Y%m%d_%H%M%S"], {
          encoding: "utf8",
        });
        expect(dirname(run.log_path)).toBe(join(hub.stateDir, "logs"));
        const suffix = `(_${run.run_id.slice(4)})?`;
        expect(basename(run.log_path)).toMatch(new RegExp(`^${name}__${moment.trim()}${suffix}\\.log$`));
        expect((await stat(run.log_path)).mode & 0o7777).toBe(0o640);
      }
      expect(new Set(runs.map((run) => run.log_path)).size).toBe(runs.length);
      expect(runs.filter((run) => /__\d{8}_\d{6}\.log$/.test(run.log_path)).length).toBeGreaterThan(0);
    });

    test("the cwd of a recipe is relative to the folder of the recipes file, and log_dir is relative to cwd", async () => {
      const recipe = { title: "Where", description: "Says where it is", command: ["pwd"] };
      await using hub = await startHub({
        deploy,
        recipes: [
          { ...recipe, recipe_id: "here" },
          { ...recipe, recipe_id: "there", cwd: "jobs/space", log_dir: "logs/mine" },
          { ...recipe, recipe_id: "local-program", cwd: "jobs", command: ["./tool", "x"] },
        ],
      });
      await mkdir(join(hub.dir, "jobs", "space"), { recursive: true });
      await writeFile(join(hub.dir, "jobs", "tool"), '#!/bin/sh\necho "tool $*"\n', { mode: 0o755 });
      const launch = async (recipe_id: string) => {
        const { json } = await hub.post(PIPELINES, { recipe_id });
        await hub.ended(json);
        return { log: await hub.log(json), logDir: dirname(json.log_path) };
      };

      expect(await launch("here")).toEqual({ log: `${hub.dir}\n`, logDir: join(hub.stateDir, "logs") });
      expect(await launch("there")).toEqual({
        log: `${hub.dir}/jobs/space\n`,
        logDir: `${hub.dir}/jobs/space/logs/mine`,
      });
      expect((await launch("local-program")).log).toBe("tool x\n");
    });

    test("a changed recipes file takes effect at once, and a malformed one leaves the last good one in effect", async () => {
      await using hub = await startHub({ deploy });
      const recipe = { title: "New", description: "", command: ["echo", "new"] };
      const replace = async (text: string) => {
        await writeFile(`${hub.recipesFile}.new`, text);
        await rename(`${hub.recipesFile}.new`, hub.recipesFile);
      };
      const ids = async () =>
        (await hub.get("/api/v1/pipelines/recipes")).json.recipes.map(
          (entry: { recipe_id: string }) => entry.recipe_id,
        );
      expect(await ids()).toEqual(["hello"]);

      await replace(JSON.stringify({ recipes: [{ ...recipe, recipe_id: "new" }] }));
      expect(await ids()).toEqual(["new"]);
      expect((await hub.post(PIPELINES, { recipe_id: "hello" })).json).toMatchObject({
        status: 404,
        code: "recipe_not_found",
      });
      // In front of a remote agent, an answer about its health is given again for a second.
      const healthIs = async (expected: object) => {
        await expect
          .poll(() => hub.get("/healthz"), { timeout: 3_000 })
          .toMatchObject({ status: 200, json: expected });
      };

      for (const broken of ['{"recipes": [', '{"recipes": [{"recipe_id": "../x"}]}', "[]"]) {
        await healthIs({ status: "ok", agent: "ok", problems: [] });
        await replace(broken);
        expect(await ids()).toEqual(["new"]);
        expect((await hub.post(PIPELINES, { recipe_id: "new" })).status).toBe(201);
        await healthIs({
          status: "degraded",
          agent: "degraded",
          problems: [expect.stringContaining("recipes file")],
        });
        await replace(JSON.stringify({ recipes: [{ ...recipe, recipe_id: "new" }] }));
      }

      await replace(JSON.stringify({ recipes: [{ ...recipe, recipe_id: "newer" }] }));
      expect(await ids()).toEqual(["newer"]);
      await healthIs({ status: "ok", problems: [] });
    });

    test("the first concurrent requests after a start all find the recipes", async () => {
      await using hub = await startHub({ deploy });
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => hub.get("/api/v1/pipelines/recipes")),
      );
      expect(answers.map(({ json }) => json.recipes.length)).toEqual(answers.map(() => 1));
    });

    test("an unknown recipe answers 404, also one with a name of Object.prototype", async () => {
      const hub = shared();
      for (const recipe_id of ["nope", "constructor", "toString"]) {
        const { status, json } = await hub.post(PIPELINES, { recipe_id });
        expect(status).toBe(404);
        expect(json).toMatchObject({
          code: "recipe_not_found",
          detail: expect.stringContaining(recipe_id),
        });
      }
    });
  });
}

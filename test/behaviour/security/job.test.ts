import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync, writeSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { findErrorLine } from "../../../host-agent/runs/outcome.ts";
import { DEFAULT_ERROR_MARKERS } from "../../../host-agent/catalogue/error-markers.ts";
import { nodeEmbedded, startHub, until } from "../../support/hub.ts";
import { remoteEnv, startAgentProcess } from "../../support/deployments.ts";
import { serverProcess, startServerProcess } from "../../support/server-process.ts";

const RUNS = "/api/v1/scripts/runs";

describe("a hostile job that runs as the user of the service", () => {
  test("can write a false exit code for itself: the record believes it", async () => {
    await using hub = await startHub();
    const run = await hub.runScript(
      `dir=$(tr '\\0' '\\n' </proc/$PPID/cmdline | grep '/runs/run_'); printf '  0\\n' 1<>"$dir/exit"; exec sleep 60`,
    );
    expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0 });
    expect(
      processesOf(run.run_id),
      "it lies: it lives on, and can no more be killed by the API",
    ).not.toHaveLength(0);
    expect((await hub.kill(run)).status).toBe(409);
  });

  test("can hide a daemon from a kill: a session, an environment and parents of its own", async () => {
    await using hub = await startHub();
    const pidFile = join(hub.dir, "daemon");
    const run = await hub.runScript(
      `(setsid env -i /bin/sh -c 'echo $$ >"${pidFile}"; exec sleep 60' &) ; until test -s "${pidFile}"; do sleep 0.02; done; sleep 60`,
    );
    const pid = await until(
      () => (existsSync(pidFile) && Number(readFileSync(pidFile, "utf8"))) || undefined,
    );
    try {
      await until(async () => (await isOrphan(pid)) || undefined);
      await hub.kill(run, { signal: "SIGKILL" });
      expect((await hub.ended(run)).status).toBe("killed");
      expect(existsSync(`/proc/${pid}`), "only a cgroup or a user of its own would hold it").toBe(true);
    } finally {
      process.kill(pid, "SIGKILL");
    }
  });

  test("who bears another run's id is killed with it, and harms nobody else", async () => {
    await using hub = await startHub();
    const victim = await hub.runScript("sleep 60");
    const forger = await hub.runScript(
      `HUB_RUN_ID=${victim.run_id} sleep 61 & sleep 62 & wait -n; echo "$?"; wait`,
    );
    await until(
      () => processesOf(victim.run_id).some(({ session }) => String(session) === forger.pid) || undefined,
    );

    await hub.kill(victim, { signal: "SIGKILL" });

    expect(await hub.ended(victim)).toMatchObject({ status: "killed" });
    expect((await hub.run(forger)).status, "the forger itself goes on").toBe("running");
    await until(async () => (await hub.log(forger)).includes("137") || undefined);
    await hub.kill(forger, { signal: "SIGKILL" });
    expect(await hub.ended(forger)).toMatchObject({ status: "killed" });
  });

  test("can kill the agent, which loses nothing by it", async () => {
    const pids: number[] = [];
    const deploy = serverProcess({ stopSignal: "SIGTERM", onStart: (pid) => pids.push(pid) });
    await using hub = await startHub({ deploy });
    const script = await hub.script(
      "kill-agent.sh",
      'until test -e "$1"; do sleep 0.02; done; kill -9 "$2"; echo done; exit 5',
    );
    const go = join(hub.dir, "go");
    const { json: run } = await hub.post(RUNS, { path: script, args: `${go} ${pids[0]}` });
    await writeFile(go, "");
    await until(() => !isServing(pids[0]!) || undefined);
    await hub.restart();
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 5 });
    expect(await hub.log(run)).toBe("done\n");
  });

  test("cannot order anything from an agent of its own process: nothing it can read signs for it", async () => {
    await using hub = await startHub();
    const agent = await startAgentProcess({
      dir: hub.dir,
      env: { ...hub.env, HUB_STATE_DIR: join(hub.dir, "agent-state") },
    });
    try {
      const socket = agent.url.slice("unix:".length);
      const run = await hub.runScript(
        `for path in /agent/v1/runs /agent/v1/health /agent/v1/recipes; do curl -s -o /dev/null -w '%{http_code}\\n' --unix-socket "${socket}" http://host-agent$path; done; cat /proc/${agent.child.pid}/environ | tr '\\0' '\\n'`,
      );
      await hub.ended(run);
      const log = await hub.log(run);
      expect(log).toMatch(/^401\n401\n401\n/);
      expect(log).not.toContain(agent.key.d);
    } finally {
      await agent.stop();
    }
  });
});

describe("secrets", () => {
  test("are in no answer, log, file or environment, whatever is asked and however it fails", async () => {
    const canary = {
      key: "sk_canary_plain_0123456789",
      wrong: "sk_canary_wrong_0123456789",
      env: "canary-of-the-environment",
      idem: "canary-idempotency-key",
      signing: Buffer.from("canary-of-the-signature").toString("base64"),
      // What a receiver may take as proof of who calls; no one answers there.
      callback: "canary-of-the-callback-url",
    };
    await using hub = await startHub({ keys: [{ name: "canary", key: canary.key, scopes: ["*"] }] });
    const agent = await startAgentProcess({
      dir: hub.dir,
      env: {
        ...hub.env,
        HUB_STATE_DIR: join(hub.dir, "state2"),
        HUB_CALLBACK_HOSTS: "http://127.0.0.1:9+private",
        HUB_CALLBACK_SECRET: `whsec_${canary.signing}`,
      },
    });
    const { d: agentKey } = agent.key;
    try {
      await using server = await startServerProcess({
        ...remoteEnv({ dir: hub.dir, env: hub.env }, agent.url),
        HUB_AGENT_KEY: JSON.stringify(agent.key),
        AWS_SECRET_ACCESS_KEY: canary.env,
      });
      const path = await hub.script(
        "environment.sh",
        `tr '\\0' '\\n' </proc/$$/environ; tr '\\0' '\\n' </proc/$PPID/environ; sleep 0.3`,
      );
      const callback_url = `http://127.0.0.1:9/hook?token=${canary.callback}`;
      let answers = "";
      const ask = async (method: string, route: string, key: string, body?: string) => {
        const response = await fetch(server.url + route, {
          method,
          headers: {
            authorization: `Bearer ${key}`,
            "content-type": "application/json",
            "idempotency-key": canary.idem,
          },
          ...(body !== undefined && { body }),
        });
        const text = await response.text();
        answers += JSON.stringify([...response.headers]) + text;
        return text;
      };
      const run = JSON.parse(await ask("POST", RUNS, canary.key, JSON.stringify({ path, callback_url })));
      const environ = processesOf(run.run_id).flatMap(({ pid }) => {
        try {
          return [readFileSync(`/proc/${pid}/environ`, "latin1")];
        } catch {
          return []; // It has ended since.
        }
      });
      for (const key of [canary.key, canary.wrong]) {
        for (const route of [
          "/healthz",
          RUNS,
          `${RUNS}/${run.run_id}/logs?wait=2`,
          "/api/v1/none",
          "/api/v1/scripts/content?path=/x",
          `${RUNS}?limit=x`,
        ]) {
          await ask("GET", route, key);
        }
        for (const body of [
          "{",
          JSON.stringify({ path: `${hub.root}/none.sh` }),
          JSON.stringify({ path, args: "'" }),
          JSON.stringify({ path, args: "other" }),
        ]) {
          await ask("POST", RUNS, key, body);
        }
        await ask("POST", `${RUNS}/${run.run_id}/kill`, key);
      }
      await agent.stop();
      await ask("GET", RUNS, canary.key);

      const places: Record<string, string> = {
        answers,
        environments: environ.join("\n"),
        "output of the server": server.output.stdout + server.output.stderr,
        "output of the agent": agent.output(),
        ...filesUnder([hub.stateDir, join(hub.dir, "state2")]),
      };
      expect(environ.length, "the job was looked at while it lived").toBeGreaterThan(0);
      for (const [place, text] of Object.entries(places)) {
        for (const secret of [canary.key, canary.wrong, canary.env, canary.idem, canary.signing, agentKey]) {
          expect(text.includes(secret), `${secret} in ${place}`).toBe(false);
        }
        // Only where the agent keeps it until it has called.
        const isKeptHere = /\/runs\.db(?:-wal)?$/.test(place);
        expect(!isKeptHere && text.includes(canary.callback), `the callback's URL in ${place}`).toBe(false);
      }
      expect(Object.keys(places).length).toBeGreaterThan(8);
    } finally {
      await agent.stop();
    }
  });

  test("a presented key is looked up by its digest, and compared with nothing", () => {
    for (const folder of ["handlers", "adapters", "host-agent"]) {
      for (const [file, text] of Object.entries(sources(folder))) {
        // Clients: what they compare is on the side of whoever has the key.
        if (/\/(?:cli|console|api-docs|dist)\//.test(file)) continue;
        const compared =
          text.match(/\b(?:presented\w*|\w+\.key|secret)(?:\([^)]*\))?\s*[!=]={1,2}(?![=\s]*undefined).*/g) ??
          [];
        expect(compared, file).toEqual([]);
      }
    }
    expect(sources("handlers")["handlers/auth.ts"]).toContain(
      "ring.keys.get(await digest(presentedKey(request)))",
    );
  });
});

describe("a script that is swapped while it is launched", () => {
  test("for a link out of the roots, in a loop: what runs is refused, stopped or the approved one", async () => {
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

  test("in place, while it is looked at: it is refused, and what has begun is stopped", async () => {
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

  test("in place, in a loop: it is launched or refused, and what was refused does not go on", async () => {
    await using hub = await startHub();
    const path = await hub.script("edited.sh", "word=one; sleep 0.5; echo $word");
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
    const hashes = ["one", "two"].map((word) => sha256(`#!/bin/bash\nword=${word}; sleep 0.5; echo $word\n`));
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

  test("in place, behind its launch: it runs as it is when the shell comes to it, under the hash that was approved", async () => {
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

describe("what a client can put into a launch", () => {
  test("words that look like options, assignments or file names of a shell are words", async () => {
    await using hub = await startHub();
    const path = await hub.script(
      "words.sh",
      `printf '%s\\n' "$@"; env | grep -c -e LD_PRELOAD -e BASH_ENV -e ^ENV=`,
    );
    const { json } = await hub.post(RUNS, {
      path,
      args: "-c --rcfile -- LD_PRELOAD=/x BASH_ENV=/x ENV=/x @file /dev/fd/0 ../../x",
    });
    await hub.ended(json);
    expect(await hub.log(json)).toBe(
      "-c\n--rcfile\n--\nLD_PRELOAD=/x\nBASH_ENV=/x\nENV=/x\n@file\n/dev/fd/0\n../../x\n0\n",
    );
  });

  test("the loader and the shell of a run take no orders from the service's environment", async () => {
    const env = {
      LD_PRELOAD: "",
      BASH_ENV: "/nowhere/x.sh",
      ENV: "/nowhere/x.sh",
      PROMPT_COMMAND: "id",
      "BASH_FUNC_echo%%": "() { id; }",
    };
    await using hub = await startHub({ deploy: nodeEmbedded, env });
    const run = await hub.runScript(
      "echo own; env | cut -d= -f1 | grep -E 'LD_|BASH|ENV$|PROMPT' | grep -vx BASH_VERSION; true",
    );
    await hub.ended(run);
    expect(await hub.log(run)).toBe("own\n");
  });

  test("more than execve takes is a clear problem and no fault of ours", async () => {
    await using hub = await startHub({
      recipes: [
        {
          recipe_id: "huge",
          title: "Huge",
          description: "",
          command: ["echo"],
          env: { BIG: "x".repeat(140_000) },
        },
      ],
    });
    const { status, json } = await hub.post("/api/v1/pipelines/runs", {
      recipe_id: "huge",
      args: "a ".repeat(10_000),
    });
    expect({ status, code: json.code }).toEqual({ status: 422, code: "launch_failed" });
    expect(json.detail).toContain("E2BIG");
  });

  test("a log written to slow down its reader takes no time to judge", () => {
    const markers = DEFAULT_ERROR_MARKERS.map((source) => new RegExp(source, "u"));
    const hostile = [
      "a",
      "a.",
      "Error",
      "Error: ",
      "FATAL ",
      "FATAL:0",
      "' ",
      ": not found ",
      ": line 1",
      "1",
      " ",
      "\t",
      "(core dumped)",
      "panic",
    ];
    const heads = [
      "",
      "XError: 1",
      "XError: ",
      "FATAL",
      "FATAL =",
      "thread '",
      "a: 1: ",
      "command not found",
      "x: line 1: 1 ",
    ];
    const started = performance.now();
    for (const head of heads) {
      for (const part of hostile) findErrorLine(`${head}${part.repeat(65_536 / part.length)}!`, markers);
    }
    // Eight times what is ever looked at: a fraction of a second when all are linear, many seconds when one is not.
    expect(performance.now() - started).toBeLessThan(2_000);
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

async function isOrphan(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1");
  const ppid = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  return !(await readFile(`/proc/${ppid}/cmdline`, "latin1")).includes("run.sh");
}

function isServing(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** The bytes of every file under the folders, by path. */
function filesUnder(folders: string[]): Record<string, string> {
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()),
  );
  return Object.fromEntries(
    files.map((entry) => [
      join(entry.parentPath, entry.name),
      readFileSync(join(entry.parentPath, entry.name), "latin1"),
    ]),
  );
}

/** The text of every source file of a folder, by its path from the project. */
function sources(folder: string): Record<string, string> {
  const all = filesUnder([new URL(`../../../${folder}`, import.meta.url).pathname]);
  const base = new URL("../../../", import.meta.url).pathname;
  return Object.fromEntries(
    Object.entries(all)
      .filter(([path]) => path.endsWith(".ts"))
      .map(([path, text]) => [path.slice(base.length), text]),
  );
}

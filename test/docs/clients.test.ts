import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { connect, createServer, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Webhook } from "standardwebhooks";
import { describe, expect, onTestFinished, test } from "vitest";

import { CLIENTS_PAGE, clientsBlock as block } from "../support/clients-page.ts";
import { ALL, type Hub, startHub, until } from "../support/hub.ts";
import { HAS_HTTPX, PYTHON, runPython, runShell } from "../support/shell.ts";
import { needs } from "../support/needs.ts";

const CLIENT = fileURLToPath(new URL("../client/", import.meta.url));
const require = createRequire(join(CLIENT, "package.json"));
const folderOf = (name: string) => dirname(require.resolve(`${name}/package.json`));

const HAS_CURL = spawnSync("curl", ["--version"]).status === 0;
const HAS_PYTHON = spawnSync(PYTHON, ["--version"]).status === 0;
const HAS_YAML = spawnSync(PYTHON, ["-c", "import yaml"]).status === 0;

/** More than a page of log, the last line after a pause, and its own exit code. */
const JOB = 'echo "args: $*"; seq 1 20000; sleep 1; echo "the end: größe 한 😀"; exit 3';
const RECIPES = [
  {
    recipe_id: "job",
    title: "Job",
    description: "Fails with 3",
    command: ["/bin/sh", "-c", JOB, "job"],
  },
  {
    recipe_id: "countdown",
    title: "Countdown",
    description: "Says done",
    command: ["/bin/sh", "-c", 'echo "counts $*"', "countdown"],
  },
];
const ARGS = String.raw`--name 'two words' "a \"b\""`;

/** The page's Python program with one of its two beginnings. */
const program = (ask: string) => `${block(ask)}\n\n${block("hub_rest.py")}`;

describe("docs/clients.md", () => {
  test("curl launches, reads a page and kills", needs(HAS_CURL, "curl is not installed"), async () => {
    const endless = { ...RECIPES[1]!, command: ["/bin/sh", "-c", "echo 60; exec sleep 300"] };
    await using hub = await startHub({ recipes: [endless] });

    const said = await runShell(block("curl.sh"), environment(hub.url));

    const { json } = await hub.get("/api/v1/pipelines/runs");
    expect(json.runs).toMatchObject([{ status: "killed", spec: { args: "--seconds 60" } }]);
    expect(said).toContain('"chunk":"60\\n"');
    expect(said).toContain('"status":"killed"');
    await hub.ended(json.runs[0]);
  });

  test(
    "hub.sh launches once over a bad connection, prints each byte once and exits with the exit code of the run",
    needs(HAS_CURL, "curl is not installed"),
    async () => {
      await using hub = await startHub({ recipes: RECIPES });
      const script = join(hub.dir, "hub.sh");
      await writeFile(script, `sleep() { command sleep 0.1; }\n${block("hub.sh")}`);

      const ended = await overBadLine(hub, "/bin/sh", [script, "job", ARGS, "nightly"]);

      await expectTheJob(hub, ended);
    },
  );

  test(
    "hub.sh prints the problem of a refused launch and exits with 69",
    needs(HAS_CURL, "curl is not installed"),
    async () => {
      await using hub = await startHub();
      const script = join(hub.dir, "hub.sh");
      await writeFile(script, block("hub.sh"));

      const ended = await run("/bin/sh", [script, "nothing"], environment(hub.url));

      expect(ended).toMatchObject({
        code: 69,
        stdout: "",
        stderr: expect.stringContaining("recipe_not_found"),
      });
    },
  );

  test("the polling loop misses no line", needs(HAS_HTTPX, "python3-httpx is not installed"), async () => {
    await using hub = await startHub({ recipes: RECIPES });
    const { json: launched } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "job" });

    const ended = await python(hub, `${FAST}\n${block("loop.py")}`, [launched.run_id], hub.url);

    expect(ended).toMatchObject({ code: 0, stdout: await hub.log(launched) });
    expect(ended.stdout).toMatch(/the end: größe 한 😀\n$/u);
  });

  test.for([
    { beginning: "ask_urllib.py", isThere: HAS_PYTHON, program: "python3" },
    { beginning: "ask_httpx.py", isThere: HAS_HTTPX, program: "python3-httpx" },
  ])(
    "hub.py with $beginning launches once over a bad connection, prints each byte once and exits with the exit code of the run",
    async ({ beginning, isThere, program: needed }, context) => {
      context.skip(!isThere, `${needed} is not installed`);
      await using hub = await startHub({ recipes: RECIPES });

      const ended = await overBadLine(hub, PYTHON, [
        "-c",
        `${FAST}\n${program(beginning)}`,
        "job",
        ARGS,
        "nightly",
      ]);

      await expectTheJob(hub, ended);
      const refused = await python(hub, program(beginning), ["nothing"], hub.url);
      expect(refused).toMatchObject({ code: 69, stderr: expect.stringMatching(/^hub\.py: 404: .+\n$/) });
      const unset = await python(hub, program(beginning), ["nothing"], "");
      expect(unset).toMatchObject({ code: 69, stderr: "hub.py: set HUB_URL\n" });
    },
  );

  test("the TypeScript client compiles against the served document, launches once, prints each byte once and exits with the exit code of the run", async () => {
    await using hub = await startHub({ recipes: RECIPES });
    const folder = join(CLIENT, "generated/clients-page");
    await mkdir(folder, { recursive: true });
    const document = join(hub.dir, "openapi.json");
    await writeFile(document, (await hub.get("/openapi.json")).bytes);
    await writeFile(join(folder, "launch.ts"), block("launch.ts").replace("3_000", "100"));
    await writeFile(
      join(folder, "tsconfig.json"),
      JSON.stringify({ extends: "../../tsconfig.json", files: ["launch.ts"] }),
    );

    const node = (...args: string[]) => promisify(execFile)(process.execPath, args, { cwd: folder });
    await node(join(folderOf("openapi-typescript"), "bin/cli.js"), document, "-o", "hub.d.ts");
    const compiled = await node(join(folderOf("typescript"), "bin/tsc"), "-p", ".").catch(
      (error: { stdout: string }) => error,
    );
    expect(compiled.stdout).toBe("");
    const ended = await overBadLine(hub, process.execPath, [
      join(folder, "launch.ts"),
      "job",
      ARGS,
      "nightly",
    ]);

    await expectTheJob(hub, ended);
  });

  test(
    "receiver.py prints the run of each genuine callback once, also while the secret is changed, and refuses others",
    needs(HAS_PYTHON, "python3 is not installed"),
    async () => {
      const [old, next] = ["o", "n"].map((letter) => `whsec_${Buffer.alloc(32, letter).toString("base64")}`);
      const child = spawn(PYTHON, ["-c", block("receiver.py")], {
        env: { ...environment(""), HUB_CALLBACK_SECRET: old },
        stdio: ["ignore", "pipe", "inherit"],
      });
      onTestFinished(() => void child.kill("SIGKILL"));
      let printed = "";
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => (printed += chunk));
      const port = await until(() => /^listening on (?<port>\d+)$/m.exec(printed)?.groups!["port"]);
      const origin = `http://127.0.0.1:${port}`;
      await using hub = await startHub({
        recipes: RECIPES,
        env: { HUB_CALLBACK_HOSTS: origin, HUB_CALLBACK_SECRET: `${next},${old}` },
      });

      const { json } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "job", callback_url: origin });
      await until(() => printed.includes("failed") || undefined);

      expect(printed).toBe(`listening on ${port}\n${json.run_id} failed 3\n`);
      const post = async (signer: string, at: Date, id = "run_000000000000") => {
        const body = JSON.stringify({ ...json, run_id: id });
        const headers = {
          "webhook-id": id,
          "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
          "webhook-signature": new Webhook(signer).sign(id, at, body),
        };
        return (await fetch(origin, { method: "POST", headers, body })).status;
      };
      const now = new Date();
      expect(await post(old!, now, json.run_id), "a repetition is received, and not printed").toBe(204);
      expect(await post(next!, now), "another secret").toBe(401);
      expect(await post(old!, new Date(now.getTime() - 400_000)), "a recorded one").toBe(401);
      expect(printed).toBe(`listening on ${port}\n${json.run_id} failed 3\n`);
    },
  );

  test("the step of the workflow runs", needs(HAS_CURL, "curl is not installed"), async () => {
    await using hub = await startHub({ recipes: RECIPES });
    await mkdir(join(hub.dir, "ci"));
    await writeFile(join(hub.dir, "ci/hub.sh"), block("hub.sh"));
    const [, indented] = /^ {8}run: \|\n((?: {10}.*\n)+)/m.exec(block("workflow.yml"))!;
    const step = indented!.replaceAll(/^ {10}/gm, "");
    const env = { ...environment(hub.url), JOB_KEY: "evaluate-1-1" };

    // As a runner calls it.
    const ended = await run("/bin/bash", ["-e", "-c", step], env, hub.dir);

    expect(ended).toMatchObject({
      code: 0,
      stdout: "::group::Log of the run\ncounts --seconds 2\n::endgroup::\n",
    });
    expect(step).not.toContain("${{");
  });

  test(
    "the workflow is valid YAML with one step that calls hub.sh",
    needs(HAS_YAML, "python3-yaml is not installed"),
    async () => {
      const json = await runPython(
        "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.argv[1]), default=str))",
        [block("workflow.yml")],
      );

      expect(JSON.parse(json).jobs.evaluate.steps).toMatchObject([
        { uses: expect.stringMatching(/^actions\/checkout@/) },
        { env: { HUB_URL: "https://hub.acme" }, run: expect.stringContaining("sh ci/hub.sh") },
      ]);
    },
  );

  test(
    "the Airflow task finds its run again and fails when the run fails",
    needs(HAS_PYTHON, "python3 is not installed"),
    async () => {
      await using hub = await startHub({ recipes: RECIPES });
      await writeFile(join(hub.dir, "hub.py"), program("ask_urllib.py"));
      const said = await python(
        hub,
        `${AIRFLOW}\n${block("dag.py")}
try:
    run_on_hub("job", "", "key")
except RuntimeError as error:
    print(error)`,
        [],
        hub.url,
      );

      expect(said).toMatchObject({ code: 0, stderr: "" });
      expect(said.stdout).toMatch(/^counts --seconds 2\n/);
      expect(said.stdout).toMatch(/\nrun_[0-9a-f]{12} failed: .+ code 3\.\n$/);
      const { json } = await hub.get("/api/v1/pipelines/runs");
      expect(json.runs).toMatchObject([{ spec: { recipe_id: "job" } }, { spec: { recipe_id: "countdown" } }]);
    },
  );

  test("every named code block of the page is tested", () => {
    const names = [...CLIENTS_PAGE.matchAll(/^```\w+ (\S+)$/gm)].map(([, name]) => name);
    expect(names).toEqual([
      "env",
      "curl.sh",
      "hub.sh",
      "loop.py",
      "ask_urllib.py",
      "ask_httpx.py",
      "hub_rest.py",
      "launch.ts",
      "receiver.py",
      "workflow.yml",
      "dag.py",
      "prepare.cjs",
      "newman.sh",
      "portman.json",
      "postman.json",
      "portman.sh",
      "prism.sh",
    ]);
  });
});

test(
  "the polling loop in the description of the OpenAPI document misses no line",
  needs(HAS_HTTPX, "python3-httpx is not installed"),
  async () => {
    await using hub = await startHub({ recipes: RECIPES });
    const { json: document } = await hub.get("/openapi.json");
    const [, loop] = /```python\n([^]*?)```/.exec(document.info.description)!;
    const { json: launched } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "job" });

    const printed = await runPython(
      `import sys, httpx\n${loop}
client = httpx.Client(base_url=sys.argv[1], headers={"Authorization": f"Bearer {sys.argv[2]}"}, timeout=30)
print(follow(client, f"/api/v1/pipelines/runs/{sys.argv[3]}")["status"])`,
      [hub.url, ALL.key, launched.run_id],
    );

    expect(printed).toBe(`${await hub.log(launched)}failed\n`);
  },
);

/** Their two seconds, on a faster clock. */
const FAST = "import time\n_sleep = time.sleep\ntime.sleep = lambda seconds: _sleep(seconds / 20)";

/** As much of Airflow as a DAG file needs: its task runs at once, twice, as a second try does. */
const AIRFLOW = `import sys, types
def task(**options):
    return lambda function: lambda: (function(), function())
def dag(**options):
    return lambda function: function
def get_current_context():
    return {"dag_run": types.SimpleNamespace(run_id="scheduled__1"), "ti": types.SimpleNamespace(task_id="evaluate")}
sys.modules["airflow"] = types.ModuleType("airflow")
sys.modules["airflow.sdk"] = types.SimpleNamespace(task=task, dag=dag, get_current_context=get_current_context)`;

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

function environment(url: string): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LANG: "C.UTF-8", HUB_URL: url, HUB_KEY: ALL.key };
}

async function run(file: string, args: string[], env: Record<string, string>, cwd?: string): Promise<Ended> {
  const child = spawn(file, args, { env, cwd, stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: child.exitCode, stdout, stderr };
}

function python(hub: Hub, source: string, args: string[], url: string): Promise<Ended> {
  return run(PYTHON, ["-c", source, ...args], environment(url), hub.dir);
}

/** Runs a client over a line that loses the answers of its first, second and fourth request. */
async function overBadLine(hub: Hub, file: string, args: string[]): Promise<Ended> {
  let requests = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const target = connect(Number(new URL(hub.url).port), "127.0.0.1");
    let left = Infinity;
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => other.destroy());
    }
    client.on("data", (data) => {
      if (/^(GET|POST) /.test(data.toString("latin1"))) {
        requests += 1;
        // In the middle of the head, or of the body.
        left = { 1: 20, 2: 600, 4: 2_000 }[requests] ?? Infinity;
      }
      target.write(data);
    });
    target.on("data", (data: Buffer) => {
      client.write(data.subarray(0, left));
      left -= data.length;
      if (left <= 0) client.destroySoon();
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  try {
    // Addresses are often copied with their slash.
    const ended = await run(file, args, environment(`http://127.0.0.1:${port}/`), hub.dir);
    expect(requests).toBeGreaterThan(5);
    return ended;
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

async function expectTheJob(hub: Hub, { code, stdout, stderr }: Ended): Promise<void> {
  const { json } = await hub.get("/api/v1/pipelines/runs");
  expect(json.runs, stderr).toHaveLength(1);
  expect(json.runs[0]).toMatchObject({
    status: "failed",
    exit_code: 3,
    spec: { recipe_id: "job", args: ARGS },
  });
  expect(stdout === (await hub.log(json.runs[0])), `${stderr} …${stdout.slice(-200)}`).toBe(true);
  expect(stdout).toMatch(/^args: --name two words a "b"\n1\n[^]*\nthe end: größe 한 😀\n$/u);
  expect(code).toBe(3);
}

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, onTestFinished, test } from "vitest";

import { ALL, type Hub, startHub, until } from "./hub.ts";
import { HAS_HTTPX, runPython, runShell } from "./shell.ts";

const RECIPES_FILE = fileURLToPath(new URL("../host-agent/recipes/recipes.json", import.meta.url));
const HAS_CURL = spawnSync("curl", ["--version"]).status === 0;

/** The examples of the API document, word for word. */
const LAUNCH_PIPELINE = String.raw`curl -X POST https://hub.acme/api/v1/pipelines/runs \
-H "Authorization: Bearer sk_live_..." \
-H "Content-Type: application/json" \
-H "Idempotency-Key: my-job-2026-05-15-001" \
-d '{"recipe_id": "build_all_extra_features", "args": "--limit 5000"}'`;

const LAUNCH_SCRIPT = String.raw`curl -X POST https://hub.acme/api/v1/scripts/runs \
-H "Authorization: Bearer sk_live_..." \
-H "Content-Type: application/json" \
-d '{"path": "/home/mark/scripts/my_job.sh", "args": "--mode full"}'`;

const READ_LOG = String.raw`curl "https://hub.acme/api/v1/scripts/runs/run_a1b2/logs?after=0" \
-H "Authorization: Bearer sk_live_..."`;

const POLLING_LOOP = `offset = 0
while True:
    r = client.get(f"/api/v1/scripts/runs/{run_id}/logs",
                   params={"after": offset, "max_bytes": 65536})
    chunk = r.json()
    print(chunk["chunk"], end="")
    offset = chunk["offset"]
    if not chunk["more"]:
        # Optional: check status; break if completed/failed/killed
        ...
    time.sleep(2)
`;

/** What the document leaves to the reader at \`...\`: one more page after the run has ended, then out. */
const CHECK_STATUS = `if ended:
            break
        record = client.get(f"/api/v1/scripts/runs/{run_id}").json()
        ended = record["status"] in ("completed", "failed", "killed")`;

describe.skipIf(!HAS_CURL)("the API document's examples (skipped without curl)", () => {
  test("launch a pipeline: the record has the documented fields, types and order", async () => {
    await using hub = await startDocumentHub();

    const record = await curl(hub, LAUNCH_PIPELINE);

    expect(Object.keys(record).filter((field) => field in DOCUMENTED_TYPES)).toEqual(
      Object.keys(DOCUMENTED_TYPES),
    );
    expect(record).toMatchObject(DOCUMENTED_TYPES);
    expect(record).toMatchObject({
      source: "pipeline",
      spec: { recipe_id: "build_all_extra_features", args: "--limit 5000" },
      ended_at: null,
      status: "running",
      key_name: "acme-prod",
    });
    expect(Object.keys(record["spec"] as object)).toEqual(["recipe_id", "args"]);
    expect(record["cmd"]).toMatch(/build-all-extra-features\.ts --limit 5000$/);
    expect(record["log_path"]).toMatch(/\/build_all_extra_features__\d{8}_\d{6}\.log$/);
    expect(Math.abs((record["started_at"] as number) - Date.now() / 1000)).toBeLessThan(60);
    expect(await hub.ended(record as never)).toMatchObject({ status: "completed", exit_code: 0 });
  });

  test("launch a pipeline again: the same key is the same run", async () => {
    await using hub = await startDocumentHub();

    const first = await curl(hub, LAUNCH_PIPELINE);
    const again = await curl(hub, LAUNCH_PIPELINE);

    expect(again["run_id"]).toBe(first["run_id"]);
    expect((await hub.get("/api/v1/pipelines/runs?status=&limit=")).json.runs).toHaveLength(1);
    await hub.ended(first as never);
  });

  test("answer a launch with 201 Created", async () => {
    await using hub = await startDocumentHub();

    const answer = await runShell(inThisWorld(hub, LAUNCH_PIPELINE).replace("curl", "curl -s -i"), hub.env);

    expect(answer).toMatch(/^HTTP\/1\.1 201 Created\r\n/);
    const { runs } = (await hub.get("/api/v1/pipelines/runs")).json;
    await hub.ended(runs[0]);
  });

  test("launch a script and read its log", async () => {
    await using hub = await startDocumentHub();
    await writeScript(hub, 'echo "started at $(date +%T)"; echo "$@"');

    const record = await curl(hub, LAUNCH_SCRIPT);

    expect(record).toMatchObject({
      source: "script",
      spec: { path: join(hub.root, "scripts/my_job.sh"), args: "--mode full" },
      key_name: "acme-prod",
    });
    await hub.ended(record as never);
    const page = await curl(hub, READ_LOG.replace("run_a1b2", record["run_id"] as string));
    expect(Object.keys(page)).toEqual(["run_id", "offset", "size", "chunk", "more"]);
    expect(page).toEqual({
      run_id: record["run_id"],
      offset: 32,
      size: 32,
      chunk: expect.stringMatching(/^started at \d\d:\d\d:\d\d\n--mode full\n$/),
      more: false,
    });
  });

  test("show a first page of 4096 bytes of a log of 8192, and that there is more", async () => {
    await using hub = await startDocumentHub();
    await writeScript(hub, "head -c 8192 /dev/zero | tr '\\0' x");
    const record = await curl(hub, LAUNCH_SCRIPT);
    await hub.ended(record as never);

    const page = await curl(hub, READ_LOG.replace("run_a1b2", record["run_id"] as string));

    expect(page).toMatchObject({ offset: 4096, size: 8192, chunk: "x".repeat(4096), more: true });
  });

  test.skipIf(!HAS_HTTPX)("follow a log with the polling loop (skipped without python3-httpx)", async () => {
    await using hub = await startDocumentHub();
    await writeScript(hub, "seq 1 30000; sleep 0.3; echo the end: größe 한 😀");
    const record = await curl(hub, LAUNCH_SCRIPT);

    const printed = await runPython(
      [
        "import sys, time, httpx",
        "base_url, key, run_id = sys.argv[1:]",
        'client = httpx.Client(base_url=base_url, headers={"Authorization": f"Bearer {key}"})',
        // The document's two seconds, on a faster clock.
        "sleep = time.sleep",
        "time.sleep = lambda seconds: sleep(seconds / 20)",
        "ended = False",
        POLLING_LOOP.replace("...", CHECK_STATUS),
      ].join("\n"),
      [hub.url, ALL.key, record["run_id"] as string],
    );

    expect(printed).toBe(await hub.log(record as never));
    expect(printed).toMatch(/^1\n2\n[^]*\n30000\nthe end: größe 한 😀\n$/u);
  });

  test("import the OpenAPI document and filter it to /api/v1: the document's thirteen operations", async () => {
    await using hub = await startDocumentHub();

    const { paths } = await curl(hub, "curl https://hub.acme/openapi.json");

    const operations = Object.entries(paths as Record<string, object>)
      .filter(([path]) => path.startsWith("/api/v1/"))
      .flatMap(([path, item]) => Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`));
    expect(operations.toSorted()).toEqual(
      [
        "GET /api/v1/pipelines/recipes",
        "POST /api/v1/pipelines/runs",
        "GET /api/v1/pipelines/runs",
        "GET /api/v1/pipelines/runs/{run_id}",
        "GET /api/v1/pipelines/runs/{run_id}/logs",
        "POST /api/v1/pipelines/runs/{run_id}/kill",
        "GET /api/v1/scripts",
        "GET /api/v1/scripts/content",
        "POST /api/v1/scripts/runs",
        "GET /api/v1/scripts/runs",
        "GET /api/v1/scripts/runs/{run_id}",
        "GET /api/v1/scripts/runs/{run_id}/logs",
        "POST /api/v1/scripts/runs/{run_id}/kill",
      ].toSorted(),
    );
  });

  test.for([
    ["the keys file is missing", undefined],
    ["its keys are an empty array", { keys: [] }],
  ] as const)("dev mode: without a key while %s, until a real keys file exists", async ([, content]) => {
    await using hub = await startDocumentHub([]);
    await rm(hub.keysFile);
    if (content) await writeFile(hub.keysFile, JSON.stringify(content));
    await hub.restart();
    const withoutKey = LAUNCH_PIPELINE.replace(/-H "Authorization: .*\n/, "").replace("curl", "curl -s -i");

    const [head, body] = (await runShell(inThisWorld(hub, withoutKey), hub.env)).split("\r\n\r\n");

    expect(head).toMatch(/^HTTP\/1\.1 201 /);
    expect(head).toMatch(/^hub-auth: dev\r?$/im);
    const record = JSON.parse(body!);
    expect(record).toMatchObject({ key_name: "dev" });
    await hub.ended(record);

    await writeFile(
      hub.keysFile,
      JSON.stringify({
        keys: [{ name: "acme-prod", key: ALL.key, scopes: ["pipelines:read"], created: "2026-05-15" }],
      }),
    );
    const path = `/api/v1/pipelines/runs/${record.run_id}`;
    await until(async () => (await hub.get(path)).status === 401 || undefined);
    const withKey = { headers: { authorization: `Bearer ${ALL.key}` } };
    expect((await hub.get(path, withKey)).json).toMatchObject({ key_name: "dev" });
    expect((await hub.post(`${path}/kill`, undefined, withKey)).status).toBe(403);
  });
});

/** The document's fields in the document's order. */
const DOCUMENTED_TYPES = {
  run_id: expect.stringMatching(/^run_[0-9a-f]{12}$/),
  source: expect.any(String),
  spec: expect.any(Object),
  pid: expect.stringMatching(/^\d+$/),
  log_path: expect.stringMatching(/^\//),
  cmd: expect.any(String),
  started_at: expect.any(Number),
  ended_at: null,
  status: expect.any(String),
  key_name: expect.any(String),
};

/** A Hub like the document's: its recipes, and a home of its own to write to. */
async function startDocumentHub(keys = [ALL]): Promise<Hub> {
  const home = await realpath(await mkdtemp(join(tmpdir(), "hub-home-")));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  return startHub({ keys, env: { HOME: home, HUB_RECIPES_FILE: RECIPES_FILE } });
}

/** The example with this Hub's host, key and home in the place of the document's. */
function inThisWorld(hub: Hub, example: string): string {
  return example
    .replace("https://hub.acme", hub.url)
    .replace("sk_live_...", ALL.key)
    .replace("/home/mark", hub.root);
}

/** Runs one of the document's curl commands; its JSON. */
async function curl(hub: Hub, example: string): Promise<Record<string, unknown>> {
  return JSON.parse(await runShell(inThisWorld(hub, example), hub.env)) as Record<string, unknown>;
}

/** The document's script, in its place under the root. */
async function writeScript(hub: Hub, text: string): Promise<void> {
  const folder = join(hub.root, "scripts");
  if (!existsSync(folder)) await mkdir(folder);
  await hub.script("scripts/my_job.sh", text);
}

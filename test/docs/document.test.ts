import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, onTestFinished, test } from "vitest";

import { SCOPES } from "../../handlers/auth.ts";
import { RunStatus } from "../../host-agent/protocol/run.ts";
import { ALL, type Hub, startHub, until } from "../support/hub.ts";
import type { AnyJson } from "../support/openapi-check.ts";
import { HAS_HTTPX, runPython, runShell } from "../support/shell.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { needs } from "../support/needs.ts";

const RECIPES_FILE = fileURLToPath(new URL("../../host-agent/recipes/recipes.json", import.meta.url));
const HAS_CURL = spawnSync("curl", ["--version"]).status === 0;

/** The API document as it was given to us. */
const DOCUMENT = readFileSync(new URL("../../docs/enterprise-api-v1.txt", import.meta.url), "utf8");
/** The SHA-256 of the document on the day when it was given to us. */
const ORIGINAL_SHA256 = "b825f2817203113d07aab16021a24600dabb8e0b73ffd68d2e66f1847c73605a";

const LAUNCH_PIPELINE = block(/^curl -X POST \S+\/pipelines\/runs/m, /\n\n/);
const RECORD = JSON.parse(block(/^\{\n"run_id": "run_a1b2c3d4e5f6"/m, /\n\n/)) as Record<string, unknown>;
const LAUNCH_SCRIPT = block(/^curl -X POST \S+\/scripts\/runs/m, /\n\n/);
const READ_LOG = block(/^curl "\S+\/logs\?after=0"/m, /\n(?=\{)/);
const PAGE = JSON.parse(block(/^\{\n"run_id": "run_a1b2"/m, /\n\n/)) as Record<string, unknown>;
const KEYS_FILE = block(/^\{\n"keys"/m, /\n\n/);
const POLLING_LOOP = indented(block(/^offset = 0\n/m, /\n\n/));

/** From where `start` matches to before `end`. */
function block(start: RegExp, end: RegExp): string {
  const from = start.exec(DOCUMENT)?.index;
  if (from === undefined) throw new Error(`the API document has no ${start.source}`);
  const text = DOCUMENT.slice(from);
  return text.slice(0, end.exec(text)?.index);
}

/** The document's text has lost the blanks at the beginning of its Python lines: a line after a colon is deeper. */
function indented(python: string): string {
  let depth = 0;
  const lines = python.split("\n").map((line) => {
    // The loop's last line is the loop's own again.
    if (line.startsWith("time.sleep")) depth -= 1;
    const text = `${"    ".repeat(depth)}${line}`;
    if (line.endsWith(":")) depth += 1;
    return text;
  });
  return `${lines.join("\n")}\n`;
}

/** What the document leaves to the reader at \`...\`: one more page after the run has ended, then out. */
const CHECK_STATUS = `if ended:
            break
        record = client.get(f"/api/v1/scripts/runs/{run_id}").json()
        ended = record["status"] in ("completed", "failed", "killed")`;

/** What a dry run of version 1.0.0 answered: a separate operation, so that a launch has one success. */
const PREVIEWS = ["POST /api/v1/pipelines/previews", "POST /api/v1/scripts/previews"];

describe("the examples of the API document", needs(HAS_CURL, "curl is not installed"), () => {
  test("launch a pipeline whose record has the documented fields, types and order", async () => {
    await using hub = await startDocumentHub();

    const record = await curl(hub, LAUNCH_PIPELINE);

    expect(Object.keys(record).filter((field) => field in RECORD)).toEqual(Object.keys(RECORD));
    expect(typesOf(record)).toMatchObject(typesOf(RECORD));
    const { source, spec, ended_at, status, key_name } = RECORD;
    expect(record).toMatchObject({ source, spec, ended_at, status, key_name });
    expect(record["spec"]).toEqual(spec);
    expect(record["run_id"]).toMatch(/^run_[0-9a-f]{12}$/);
    expect(record["pid"]).toMatch(/^\d+$/);
    expect(record["cmd"]).toMatch(/build-all-extra-features\.ts --limit 5000$/);
    expect(record["log_path"]).toMatch(/\/build_all_extra_features__\d{8}_\d{6}\.log$/);
    expect(Math.abs((record["started_at"] as number) - Date.now() / 1000)).toBeLessThan(60);
    expect(await hub.ended(record as never)).toMatchObject({ status: "completed", exit_code: 0 });
  });

  test("launch a pipeline again and get the same run for the same Idempotency-Key", async () => {
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
    expect(Object.keys(page)).toEqual(Object.keys(PAGE));
    expect(typesOf(page)).toEqual(typesOf(PAGE));
    expect(page).toEqual({
      run_id: record["run_id"],
      offset: 32,
      size: 32,
      chunk: expect.stringMatching(/^started at \d\d:\d\d:\d\d\n--mode full\n$/),
      more: false,
    });
  });

  test("read a first page of 4096 bytes of a log of 8192 with more set", async () => {
    await using hub = await startDocumentHub();
    await writeScript(hub, "head -c 8192 /dev/zero | tr '\\0' x");
    const record = await curl(hub, LAUNCH_SCRIPT);
    await hub.ended(record as never);

    const page = await curl(hub, READ_LOG.replace("run_a1b2", record["run_id"] as string));

    const { offset, size, more } = PAGE;
    expect(page).toMatchObject({ offset, size, more, chunk: "x".repeat(4096) });
  });

  test("follow a log with the polling loop", needs(HAS_HTTPX, "python3-httpx is not installed"), async () => {
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

  test("import the OpenAPI document and find the thirteen operations under /api/v1, and two of previews", async () => {
    await using hub = await startDocumentHub();

    const { paths } = await curl(hub, "curl https://hub.acme/openapi.json");

    const operations = Object.entries(paths as Record<string, Record<string, AnyJson>>)
      .filter(([path]) => path.startsWith("/api/v1/"))
      .flatMap(([path, item]) =>
        Object.entries(item).map(([method, { parameters }]) => ({
          operation: `${method.toUpperCase()} ${path}`,
          takes: (parameters as { name: string }[]).map(({ name }) => name),
        })),
      );
    const documented = [...DOCUMENT.matchAll(/^((?:GET|POST) \/api\/v1\/[^?\s]+)(?:\?(\S+))? \u2014/gm)];
    expect(documented).toHaveLength(13);
    expect(operations.map(({ operation }) => operation).toSorted()).toEqual(
      [...documented.map(([, operation]) => operation!), ...PREVIEWS].toSorted(),
    );
    for (const [, operation, query = ""] of documented) {
      const { takes } = operations.find((one) => one.operation === operation)!;
      expect(takes, operation).toEqual(expect.arrayContaining([...new URLSearchParams(query).keys()]));
    }
  });

  test("name all scopes and statuses of the product", async () => {
    const lines = DOCUMENT.split("\n");
    const statuses = lines.slice(lines.indexOf("StatusMeaning") + 1).slice(0, RunStatus.options.length);
    const scopes = DOCUMENT.slice(DOCUMENT.indexOf("Scope names:"), DOCUMENT.indexOf("Dev mode:"));

    expect(statuses.map((line) => RunStatus.options.find((status) => line.startsWith(status)))).toEqual(
      RunStatus.options,
    );
    expect(scopes.match(/\w+:\w+|\*/g)).toEqual([...SCOPES, "*"]);
  });

  test.for([
    ["the keys file is missing", undefined],
    ["its keys are an empty array", { keys: [] }],
  ] as const)(
    "serve without a key in dev mode while %s, until a real keys file exists",
    async ([, content]) => {
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

      await writeFile(hub.keysFile, KEYS_FILE.replace("sk_live_LONG_RANDOM_STRING", ALL.key));
      const path = `/api/v1/pipelines/runs/${record.run_id}`;
      await until(async () => (await hub.get(path)).status === 401 || undefined);
      const withKey = { headers: { authorization: `Bearer ${ALL.key}` } };
      expect((await hub.get(path, withKey)).json).toMatchObject({ key_name: "dev" });
      const launched = await hub.post("/api/v1/pipelines/runs", { recipe_id: "countdown" }, withKey);
      expect(launched.json).toMatchObject({ key_name: "acme-prod" });
      expect(
        (await hub.post(`/api/v1/pipelines/runs/${launched.json.run_id}/kill`, undefined, withKey)).status,
      ).toBe(200);
    },
  );
});

test("docs/enterprise-api-v1.txt is unchanged", () => {
  expect(sha256(DOCUMENT)).toBe(ORIGINAL_SHA256);
});

/** The type of each field's value. */
function typesOf(record: object): Record<string, string> {
  const types = Object.entries(record).map(([name, value]) => [name, value === null ? "null" : typeof value]);
  return Object.fromEntries(types) as Record<string, string>;
}

/** A Hub like the document's: its recipes, and a separate home to write to. */
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

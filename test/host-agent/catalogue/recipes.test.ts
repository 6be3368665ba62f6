import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, open, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, onTestFinished, test } from "vitest";

import { parseCatalogue } from "../../../host-agent/catalogue/recipes-file.ts";
import { MAX_LINE_BYTES } from "../../../host-agent/recipes/qa-records.ts";
import { type Hub, startHub, until } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";

const RECIPES_FILE = fileURLToPath(new URL("../../../host-agent/recipes/recipes.json", import.meta.url));
const PROJECT = fileURLToPath(new URL("../../..", import.meta.url));
const SAMPLE_RECORDS = 40;

/** The HaluEval data next to the checkout, or in the folder that HUB_TEST_DATA names. */
const HALUEVAL = join(
  process.env["HUB_TEST_DATA"] ?? join(PROJECT, "..", "shared", "data", "halueval"),
  "general_data.jsonl",
);

test("a recipes file with a duplicate field is refused, because readers differ in which of them they take", () => {
  expect(() => parseCatalogue('{"recipes": [], "recipes": []}', "/")).toThrow(
    "field `recipes` is a duplicate",
  );
});

describe("the shipped catalogue", () => {
  const catalogue = parseCatalogue(readFileSync(RECIPES_FILE, "utf8"), "/");
  /** Arguments that make a recipe quick. */
  const QUICK: Record<string, string> = {
    host_report: "--times 2 --every 0",
    countdown: "--seconds 0",
  };

  test.for([...catalogue.recipes.keys()])("%s runs to its end through the API", async (recipe_id) => {
    await using hub = await startShipped();

    const launched = await hub.post("/api/v1/pipelines/runs", { recipe_id, args: QUICK[recipe_id] ?? "" });

    expect(launched.status).toBe(201);
    const ended = await hub.ended(launched.json);
    expect({ ...ended, log: await hub.log(launched.json) }).toMatchObject({
      status: "completed",
      exit_code: 0,
    });
    expect((await hub.log(launched.json)).length).toBeGreaterThan(0);
  });

  test("has the recipe of the API document, and one in terminal mode", async () => {
    await using hub = await startShipped();

    const { recipes } = (await hub.get("/api/v1/pipelines/recipes")).json;

    expect(recipes).toContainEqual(expect.objectContaining({ recipe_id: "build_all_extra_features" }));
    expect(recipes).toContainEqual(expect.objectContaining({ terminal: true }));
  });

  test("shows load, memory and the root's disk in the host report", async () => {
    await using hub = await startShipped();

    const log = await finishedLog(hub, "host_report", "--times 1");

    expect(log).toMatch(/^load     [\d.]+ [\d.]+ [\d.]+ \(1, 5, 15 minutes\) on \d+ CPUs$/m);
    expect(log).toMatch(/^memory   [\d.]+ of [\d.]+ GiB available \(\d+%\)$/m);
    expect(log).toMatch(/^disk     \/: [\d.]+ of [\d.]+ GiB free, \d+% used$/m);
  });

  test("counts seconds down, a line at a time, until it is killed", async () => {
    await using hub = await startShipped();
    const { json: run } = await hub.post("/api/v1/pipelines/runs", {
      recipe_id: "countdown",
      args: "--seconds 600",
    });
    await until(async () => (await hub.log(run)).startsWith("600\n") || undefined);

    expect((await hub.kill(run)).json).toMatchObject({ status: "killed" });

    expect(await hub.ended(run)).toMatchObject({ status: "killed", signal: "SIGTERM", exit_code: 143 });
  });

  test.for([
    ["countdown", "--seconds -1"],
    ["countdown", "--seconds"],
    ["countdown", "--seconds 999999999999999999999"],
    ["countdown", "--what 1"],
    ["host_report", "--times 0"],
    ["host_report", "--every '1; id'"],
    ["build_all_extra_features", "--limit 0"],
    ["build_all_extra_features", "--limit 1e3"],
    ["build_all_extra_features", "--limit"],
    ["build_all_extra_features", "--what"],
    ["build_all_extra_features", "stray"],
  ] as const)("refuses wrong options with usage and exit code 2: %s %s", async ([recipe_id, args]) => {
    await using hub = await startShipped();

    const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id, args, terminal: false });

    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 2 });
    expect(await hub.log(run)).toContain("usage: ");
  });
});

describe("build_all_extra_features", () => {
  test("writes one line of features a record, in order, and says where", async () => {
    await using hub = await startShipped();

    const log = await finishedLog(hub, "build_all_extra_features", "");

    const written = /^Done: 40 records written to (.+); bad lines skipped: 0$/m.exec(log)![1]!;
    const { HOME }: Record<string, string> = hub.env;
    expect(written.replace(/run_[0-9a-f]{12}/, "RUN")).toBe(
      `${HOME}/serveraihub/features/questions.RUN.features.jsonl`,
    );
    expect(log).toMatch(/^40 records, \d+ records\/s$/m);
    const rows = readRows(written);
    expect(rows).toHaveLength(SAMPLE_RECORDS);
    expect(rows.map((row) => row.id)).toEqual(rows.map((_, i) => `q${String(i + 1).padStart(2, "0")}`));
    expect(rows[2]).toMatchObject({ question_tokens: 6, answer_tokens: 1, type_token_ratio: 1 });
  });

  test("stops after --limit records, and takes a limit beyond the data", async () => {
    await using hub = await startShipped();
    const output = join(hub.dir, "features.jsonl");

    await finishedLog(hub, "build_all_extra_features", `--limit 3 --output ${output}`);
    expect(readRows(output).map((row) => row.id)).toEqual(["q01", "q02", "q03"]);

    await finishedLog(hub, "build_all_extra_features", `--limit 5000 --output ${output}`);
    expect(readRows(output)).toHaveLength(SAMPLE_RECORDS);
  });

  test("reports each bad line, counts it and continues", async () => {
    await using hub = await startShipped();
    const input = join(hub.dir, "in put.jsonl");
    const output = join(hub.dir, "out.jsonl");
    const good = JSON.stringify({ id: 1, question: "q", answer: "a" });
    const lines = [
      good,
      "{",
      "",
      "[1]",
      '{"question": "q", "answer": "a"}',
      '{"id": "x", "answer": "a"}',
      '{"id": "x", "question": "q", "answer": 5}',
      JSON.stringify({ ID: "h", user_query: "q", chatgpt_response: "a", hallucination: "yes" }),
    ];
    const bytes = Buffer.concat([
      Buffer.from("\ufeff" + lines.join("\r\n") + "\n"),
      Buffer.from([0x22, 0xff, 0x22, 0x0a]),
      Buffer.alloc(MAX_LINE_BYTES + 1, "x"),
      Buffer.from(`\n${good}`),
    ]);
    await writeFile(input, bytes);

    const log = await finishedLog(hub, "build_all_extra_features", `--input '${input}' --output ${output}`);

    expect(log.split("\n").filter((line) => line.endsWith("; skipped"))).toEqual([
      "line 2 is not JSON; skipped",
      "line 4 is not an object; skipped",
      "line 5 has no id (or ID); skipped",
      "line 6 has no question (or user_query); skipped",
      "line 7 has no answer (or chatgpt_response); skipped",
      "line 9 is not UTF-8; skipped",
      `line 10 is longer than ${MAX_LINE_BYTES} bytes; skipped`,
    ]);
    expect(log).toContain("bad lines skipped: 7");
    expect(readRows(output).map(({ id, label }) => [id, label])).toEqual([
      ["1", null],
      ["h", "yes"],
      ["1", null],
    ]);
  });

  test("fails when no line is good, and leaves an earlier output alone", async () => {
    await using hub = await startShipped();
    const input = join(hub.dir, "bad.jsonl");
    const output = join(hub.dir, "out.jsonl");
    await writeFile(input, "no\n".repeat(1000));
    await writeFile(output, "earlier\n");

    const run = await launchFeatures(hub, `--input ${input} --output ${output}`);

    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 1 });
    const log = await hub.log(run);
    expect(log).toContain(`Error: ${input} has no record that can be read; bad lines: 1000\n`);
    expect(log.match(/; skipped$/gm)).toHaveLength(20);
    expect(await readFile(output, "utf8")).toBe("earlier\n");
    expect(await unfinishedIn(hub.dir)).toEqual([]);
  });

  test.for([
    ["a missing input", "--input no/such/file", "Error: cannot read "],
    ["a folder as input", "--input /", "Error: "],
    [
      "a place that takes no output",
      "--output /dev/null/features.jsonl",
      "Error: cannot write to /dev/null/",
    ],
  ] as const)("fails with a clear line and exit code 1 for %s", async ([, args, line]) => {
    await using hub = await startShipped();

    const run = await launchFeatures(hub, args);

    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 1 });
    const log = await hub.log(run);
    expect(log).toContain(line);
    expect(log).not.toContain("    at ");
  });

  test("writes no file that could be run as a script", async () => {
    await using hub = await startShipped();
    const output = join(hub.root, "planted.sh");

    const run = await launchFeatures(hub, `--output ${output}`);

    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 2 });
    expect(await hub.log(run)).toContain("Error: --output must end in .jsonl");
    expect(existsSync(output)).toBe(false);
  });

  test("shows its options with --help", async () => {
    await using hub = await startShipped();

    expect(await finishedLog(hub, "build_all_extra_features", "--help")).toMatch(
      /--input FILE[^]*--limit N[^]*--output FILE/,
    );
  });

  test("leaves no half output when it is killed in the middle", async () => {
    await using hub = await startShipped();
    const fifo = join(hub.dir, "endless.jsonl");
    const output = join(hub.dir, "out.jsonl");
    execFileSync("mkfifo", [fifo]);
    // Opened for both, so that neither end waits for the other, and the end of the input never comes.
    await using input = await open(fifo, "r+");
    const run = await launchFeatures(hub, `--input ${fifo} --output ${output}`);
    await input.write(`${JSON.stringify({ id: 1, question: "q", answer: "a" })}\n`.repeat(500));
    await until(async () => (await hub.log(run)).includes("500 records, ") || undefined);
    expect(await unfinishedIn(hub.dir)).toHaveLength(1);

    await hub.kill(run);

    expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 143, signal: "SIGTERM" });
    expect(await hub.log(run)).toContain("Stopped by SIGTERM; the unfinished output is removed\n");
    expect(existsSync(output)).toBe(false);
    expect(await unfinishedIn(hub.dir)).toEqual([]);
  });

  test(
    "builds the features of the 4,507 HaluEval records",
    needs(existsSync(HALUEVAL), "HUB_TEST_DATA does not name a folder with the HaluEval data"),
    async () => {
      await using hub = await startShipped();
      const output = join(hub.dir, "halueval.jsonl");

      const run = await launchFeatures(hub, `--input '${HALUEVAL}' --output ${output} --limit 5000`);
      const log = await followLog(hub, run.run_id);

      expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0 });
      expect(log).toContain("\n4507 records, ");
      expect(log).toContain("Done: 4507 records written");
      const rows = readRows(output);
      expect(rows).toHaveLength(4507);
      expect(new Set(rows.map((row) => row.label))).toEqual(new Set(["yes", "no"]));
      expect(rows.every((row) => Object.keys(row).length === 17)).toBe(true);
    },
  );
});

/** A Hub with the shipped recipes and a separate home, in which they write. */
async function startShipped(): Promise<Hub> {
  const home = await realpath(await mkdtemp(join(tmpdir(), "hub-home-")));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  return startHub({ env: { HOME: home, HUB_RECIPES_FILE: RECIPES_FILE } });
}

async function launchFeatures(hub: Hub, args: string) {
  const { status, json } = await hub.post("/api/v1/pipelines/runs", {
    recipe_id: "build_all_extra_features",
    args,
  });
  expect(status).toBe(201);
  return json;
}

/** Runs a recipe that must complete; its log. */
async function finishedLog(hub: Hub, recipe_id: string, args: string): Promise<string> {
  const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id, args });
  const ended = await hub.ended(run);
  const log = await hub.log(run);
  expect({ ...ended, log }).toMatchObject({ status: "completed", exit_code: 0 });
  return log;
}

/** Tails a log as a client does, until the run has ended. */
async function followLog(hub: Hub, runId: string): Promise<string> {
  let text = "";
  for (let offset = 0, ended = false; ;) {
    const { json } = await hub.get(`/api/v1/pipelines/runs/${runId}/logs?after=${offset}&wait=5`);
    text += json.chunk;
    offset = json.offset;
    if (json.more) continue;
    if (ended) return text;
    ended = (await hub.get(`/api/v1/pipelines/runs/${runId}`)).json.ended_at !== null;
  }
}

function readRows(path: string): Record<string, unknown>[] {
  const lines = readFileSync(path, "utf8").split("\n");
  expect(lines.pop()).toBe("");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function unfinishedIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith(".part"));
}

test("the shipped recipe takes its options as parameters", async () => {
  const path = fileURLToPath(new URL("../../../host-agent/recipes/recipes.json", import.meta.url));
  await using hub = await startHub({ env: { HUB_RECIPES_FILE: path } });
  const output = join(hub.dir, "out.jsonl");

  const { json } = await hub.post("/api/v1/pipelines/runs", {
    recipe_id: "build_all_extra_features",
    params: { output, limit: 3 },
  });

  expect(await hub.ended(json)).toMatchObject({ status: "completed" });
  expect(json.cmd).toMatch(/build-all-extra-features\.ts --limit 3 --output /);
  expect((await readFile(output, "utf8")).trimEnd().split("\n")).toHaveLength(3);
  const refused = await hub.post("/api/v1/pipelines/runs", {
    recipe_id: "build_all_extra_features",
    params: { output: "/tmp/x.sh" },
  });
  expect(refused.json.errors).toMatchObject([{ path: "body.params.output" }]);
});

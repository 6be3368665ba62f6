import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, realpath, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, onTestFinished, test } from "vitest";

import { processesOf } from "../../host-agent/executor/process-tree.ts";
import { parseCatalogue } from "../../host-agent/catalogue/recipes-file.ts";
import { PROBLEMS } from "../../host-agent/protocol/problem.ts";
import { RunStatus } from "../../host-agent/protocol/run.ts";
import { parseKeys } from "../../handlers/keys.ts";
import { until } from "../support/hub.ts";
import { needs } from "../support/needs.ts";
import { HAS_HTTPX, runPython, runShell } from "../support/shell.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const README = readFileSync(join(PROJECT, "README.md"), "utf8");
const API = readFileSync(join(PROJECT, "docs/api.md"), "utf8");
const KEYS = readFileSync(join(PROJECT, "docs/keys.md"), "utf8");
const RECIPES = readFileSync(join(PROJECT, "docs/recipes.md"), "utf8");
const CONFIGURATION = readFileSync(join(PROJECT, "docs/configuration.md"), "utf8");
const ADDRESS = "http://127.0.0.1:8787";
/** Separates the outputs of two blocks (ASCII record separator). */
const BETWEEN_BLOCKS = "\u001e";
const STEPS = ["## A first launch", "## Follow a log", "## Stop a run", "## Retry safely"];

describe("the README with its pages", () => {
  test("shows curl commands that work in their order, and answers of the shape that the service gives", async () => {
    await using hub = await startByCommand();
    const blocks = [
      ...STEPS.flatMap((heading) => codeBlocks(heading, "sh")),
      ...codeBlocks("## Scripts", "sh", API),
    ];

    const text = blocks.join(`printf '${BETWEEN_BLOCKS}'\n`).replaceAll(ADDRESS, hub.url);
    const outputs = (await runShell(text, hub.env)).split(BETWEEN_BLOCKS);

    expect(outputs).toHaveLength(blocks.length);
    const [first, , pages, raw, stopped, retried, script] = outputs as [string, ...string[]];
    const [shownRecord, shownPage] = STEPS.flatMap((heading) => codeBlocks(heading, "json")).map((block) =>
      JSON.parse(block),
    );
    expect(shapeOf(JSON.parse(first))).toEqual(shapeOf(shownRecord));
    expect(JSON.parse(first)).toMatchObject({ spec: shownRecord.spec, status: "running", key_name: "dev" });

    const [fromStart, next] = jsonValues(pages!);
    expect(fromStart).toMatchObject({ chunk: expect.stringMatching(/^300\n/), more: false });
    expect(shapeOf(next!)).toEqual(shapeOf(shownPage));
    expect(next).toMatchObject({ chunk: expect.stringMatching(/^299\n/) });
    expect(raw).toMatch(/^300\n299\n/);

    const [killed, list] = jsonValues(stopped!);
    expect(killed).toMatchObject({ status: "killed" });
    expect(list).toMatchObject({ runs: [{ run_id: killed!["run_id"] }] });

    expect(retried!.match(/^HTTP\/1\.1 201 Created/gm)).toHaveLength(2);
    expect(retried!.match(/^idempotent-replayed: true\r$/gim)).toHaveLength(1);
    expect(new Set(retried!.match(/run_[0-9a-f]{12}/g)).size).toBe(1);

    const [listed, source, launched] = jsonValues(script!);
    const path = `${hub.env["HOME"]}/serveraihub/scripts/hello.sh`;
    expect(listed).toMatchObject({ scripts: [{ path, name: "hello.sh" }], truncated: false });
    expect(source).toMatchObject({ path, content: '#!/bin/bash\necho "hello $1"\n' });
    expect(launched).toMatchObject({ spec: { path, args: '"big world"' } });
    const logUrl = `${hub.url}/api/v1/scripts/runs/${String(launched!["run_id"])}/logs?wait=5`;
    expect(await (await fetch(logUrl)).json()).toMatchObject({ chunk: "hello big world\n" });
  });

  test(
    "shows a Python loop that misses no line of a log",
    needs(HAS_HTTPX, "python3-httpx is not installed"),
    async () => {
      await using hub = await startByCommand();
      const [loop] = codeBlocks("## Follow a log in a program", "python", API);
      const answer = await fetch(`${hub.url}/api/v1/pipelines/runs`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ recipe_id: "countdown", args: "--seconds 1" }),
      });
      const { run_id, ...rest } = (await answer.json()) as { run_id: string };
      expect(answer.status, JSON.stringify(rest)).toBe(201);

      const printed = await runPython(
        `import sys, httpx\n${loop}
client = httpx.Client(base_url=sys.argv[1], timeout=30)
print(follow(client, f"/api/v1/pipelines/runs/{sys.argv[2]}")["status"])`,
        [hub.url, run_id],
      );

      expect(printed).toBe("1\ndone\ncompleted\n");
    },
  );

  test("shows a command hub that launches a recipe in a clone and exits with the code of its run", async () => {
    await using hub = await startByCommand();
    const [command] = codeBlocks("## Console and command line", "console")[0]!.split("\n");
    const env = { ...hub.env, HUB_URL: hub.url };

    const lines = `${command!.replace("$ ", "")}\necho "exit $?"`;
    const printed = await runShell(lines, env, PROJECT);

    expect(command).toMatch(/^\$ \.\/hub run /);
    expect(printed).toMatch(/^exit 0$/m);
  });

  test("shows no sh block outside the sections that these tests cover", () => {
    const sections = [...STEPS, "## Start", "## Keys"];
    const tried = sections.flatMap((heading) => codeBlocks(heading, "sh"));

    expect(codeBlocksOf(README, "sh")).toHaveLength(tried.length);
    expect(codeBlocksOf(API, "sh")).toEqual(codeBlocks("## Scripts", "sh", API));
  });

  test("names npm scripts that exist", () => {
    const { scripts } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
    const used = [...README.matchAll(/\bnpm (?:run (?:-s )?(\w+)|(start|test))\b/g)].map(
      ([, named, short]) => named ?? short!,
    );

    expect(new Set(used)).toEqual(
      new Set([
        "start",
        "test",
        "keys",
        "doctor",
        "dev",
        "agent",
        "audit",
        "edge",
        "prove",
        "mutate",
        "bench",
      ]),
    );
    expect(used.filter((name) => !(name in scripts))).toEqual([]);
    expect(scripts.start).toMatch(/node .*adapters\/node\/node\.ts$/);
  });

  test("shows what the service prints on start: address, mode, folders and a curl command to try", async () => {
    await using hub = await startByCommand();

    const [shown] = codeBlocks("## Start", "text");
    expect(factsOf(hub.banner)).toEqual(factsOf(shown!));
    expect(hub.banner.replaceAll(hub.url, ADDRESS)).toContain(shown!.slice(shown!.indexOf("Try first:")));
    expect(hub.banner).toContain(`address   ${hub.url}\n`);
    expect(hub.banner).toMatch(/mode +dev - NO API KEYS/);
    expect(hub.banner).toContain(`scripts   ${hub.env["HOME"]}, ${hub.env["HOME"]}/serveraihub/scripts\n`);
    expect(hub.banner).toMatch(/recipes +\/.+\/recipes\.json\n/);
    const [command] = hub.banner.slice(hub.banner.indexOf("curl")).split("\n\n");
    expect(JSON.parse(await runShell(command!, hub.env))).toMatchObject({ status: "running" });
  });

  test("shows commands that create, list and revoke an API key", async () => {
    await using home = await temporaryHome();
    const keysFile = join(home.path, "keys.json");
    const env = { ...plainEnv(home.path), HUB_KEYS_FILE: keysFile };
    const [block] = codeBlocks("## Keys", "sh");
    const [create, list, revoke] = block!.trim().split("\n") as [string, string, string];

    await runShell(create, env, PROJECT);
    const created = await readFile(keysFile, "utf8");
    expect(JSON.parse(created).keys).toMatchObject([
      { name: "acme-prod", scopes: ["pipelines:read", "scripts:write"], key_sha256: expect.any(String) },
    ]);
    expect((await stat(keysFile)).mode & 0o777).toBe(0o600);
    expect(await runShell(list, env, PROJECT)).toContain("acme-prod");
    await runShell("npm run keys -- create --name other --scopes '*'", env, PROJECT);
    await runShell(revoke, env, PROJECT);
    expect(JSON.parse(await readFile(keysFile, "utf8")).keys).toMatchObject([{ name: "other" }]);
  });

  test("shows recipes files and a keys file that the parsers accept", async () => {
    const [keys] = codeBlocks("## The file", "json", KEYS);
    const [simple, recipes] = codeBlocks("# Recipes", "json", RECIPES);

    expect(
      await parseKeys(keys!.replace("LONG_RANDOM_STRING", "of_the_reader_0123456789"), () => "digest"),
    ).toMatchObject({ mode: "enforced" });
    const { recipes: parsed } = parseCatalogue(recipes!, "/srv/recipes");
    expect(parsed.get("nightly_eval")).toMatchObject({ cwd: "/srv/eval", log_dir: "/srv/eval/logs" });
    const fields = Object.keys(JSON.parse(recipes!).recipes[0]);
    expect(fields.filter((field) => !RECIPES.includes(`\`${field}\``))).toEqual([]);
    expect([...parseCatalogue(simple!, "/srv/recipes").recipes.keys()]).toEqual(["nightly_eval"]);
  });

  test("names every status, every problem with its HTTP status, and every variable", () => {
    const statuses = [...section("## Statuses", API).matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1]);
    expect(statuses).toEqual(RunStatus.options);

    const rows = section("## Errors", API).split("\n");
    const shown = Object.keys(PROBLEMS).map((code) => [
      code,
      rows.find((row) => row.includes(`\`${code}\``))?.split("|")[1],
    ]);
    expect(shown).toEqual(
      Object.entries(PROBLEMS).map(([code, { status }]) => [code, expect.stringContaining(String(status))]),
    );

    const sources = ["adapters/node/config.ts", "host-agent/config.ts"]
      .map((file) => readFileSync(join(PROJECT, file), "utf8"))
      .join("\n");
    const variables = new Set(sources.match(/\bHUB_[A-Z_]+\b/g));
    expect([...variables].filter((name) => !CONFIGURATION.includes(`\`${name}\``))).toEqual([]);
    // The rows of the README are copies of rows of the page.
    const shownRows = section("## Settings").match(/^\| `HUB_.*$/gm) ?? [];
    expect(shownRows.length).toBeGreaterThan(4);
    for (const row of shownRows) expect(CONFIGURATION).toContain(row);
  });

  test("has at most 250 lines in the README", () => {
    expect(README.split("\n").length).toBeLessThanOrEqual(250);
  });

  test("begins each page with the name of its one reader", () => {
    for (const name of readdirSync(join(PROJECT, "docs")).filter((file) => file.endsWith(".md"))) {
      const [, , line] = readFileSync(join(PROJECT, "docs", name), "utf8").split("\n");
      expect(line, name).toMatch(/^For (?:clients|operators|security reviewers|maintainers|everyone): /);
    }
  });

  test("links to files and headings that exist", () => {
    const pages = readdirSync(join(PROJECT, "docs")).filter((name) => name.endsWith(".md"));
    for (const page of ["README.md", ...pages.map((name) => `docs/${name}`)]) {
      const text = readFileSync(join(PROJECT, page), "utf8");
      const links = [...text.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)];
      const broken = links.filter(([, target, anchor]) => {
        const path = target === "" ? join(PROJECT, page) : join(PROJECT, dirname(page), target!);
        return !existsSync(path) || (anchor !== undefined && !anchorsOf(path).includes(anchor));
      });
      expect(
        broken.map(([link]) => link),
        page,
      ).toEqual([]);
    }
  });
});

/** The text from a heading to the next one of its level or above. */
function section(heading: string, page = README): string {
  const start = `\n${page}`.indexOf(`\n${heading}\n`);
  if (start < 0) throw new Error(`the page has no heading ${heading}`);
  const level = heading.indexOf(" ");
  const rest = page.slice(start + heading.length + 1);
  const end = new RegExp(`^#{1,${level}} `, "m").exec(rest)?.index ?? rest.length;
  return rest.slice(0, end);
}

function codeBlocks(heading: string, language: string, page = README): string[] {
  return codeBlocksOf(section(heading, page), language);
}

function codeBlocksOf(text: string, language: string): string[] {
  const fence = new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "gm");
  return [...text.matchAll(fence)].map((match) => match[1]!);
}

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(path: string): string[] {
  const headings = readFileSync(path, "utf8").matchAll(/^#+ (.+)$/gm);
  return [...headings].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** The names at the beginning of a banner's lines. */
function factsOf(banner: string): string[] {
  return [...banner.matchAll(/^ {2}(\w+) +(?=\S)/gm)].map(([, name]) => name!);
}

/** The names of the fields, in order; their values differ from run to run. */
function shapeOf(record: Record<string, unknown>): string[] {
  return Object.keys(record);
}

/** The JSON objects that several curl commands printed one after the other. */
function jsonValues(text: string): Record<string, unknown>[] {
  return JSON.parse(`[${text.replaceAll(/\}\s*\{/g, "},{")}]`) as Record<string, unknown>[];
}

function plainEnv(home: string): Record<string, string> {
  const bin = dirname(process.execPath);
  return { PATH: `${bin}:${process.env["PATH"] ?? "/usr/bin:/bin"}`, HOME: home, LANG: "C.UTF-8" };
}

async function temporaryHome() {
  const path = await realpath(await mkdtemp(join(tmpdir(), "hub-home-")));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** The service as `npm start` starts it, in dev mode, with a home folder that only it uses. */
async function startByCommand() {
  const home = await temporaryHome();
  onTestFinished(() => home[Symbol.asyncDispose]());
  const env = plainEnv(home.path);
  const server = spawn(process.execPath, [join(PROJECT, "adapters/node/node.ts")], {
    env: { ...env, HUB_PORT: "0", HUB_KEYS_FILE: join(home.path, "keys.json") },
    stdio: ["ignore", "pipe", "ignore"],
  });
  onTestFinished(() => void server.kill("SIGKILL"));
  const banner = await readBanner(server);
  const url = /address +(\S+)/.exec(banner)![1]!;
  return {
    url,
    env,
    banner,
    async [Symbol.asyncDispose](): Promise<void> {
      const runIds: string[] = [];
      for (const surface of ["pipelines", "scripts"]) {
        for (const runId of await runIdsOf(url, surface)) {
          runIds.push(runId);
          await fetch(`${url}/api/v1/${surface}/runs/${runId}/kill`, {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: '{"signal": "SIGKILL"}',
          });
        }
      }
      await until(() => runIds.every((runId) => processesOf(runId).length === 0) || undefined);
      server.kill("SIGTERM");
      if (server.exitCode === null) await once(server, "exit");
    },
  };
}

async function readBanner(server: ChildProcess): Promise<string> {
  let text = "";
  server.stdout!.setEncoding("utf8").on("data", (piece: string) => (text += piece));
  return until(() => (text.includes("Try first:") && text.endsWith("\n") ? text : undefined));
}

async function runIdsOf(url: string, surface: string): Promise<string[]> {
  const answer = await fetch(`${url}/api/v1/${surface}/runs`);
  return ((await answer.json()) as { runs: { run_id: string }[] }).runs.map((run) => run.run_id);
}

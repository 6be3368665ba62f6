import { expect, test } from "vitest";

import type { LaunchPreview } from "../../../host-agent/protocol/launch.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { type Hub, startHub } from "../../support/hub.ts";
import { cli, faulty, serve, startCli, PATIENTLY } from "./cli.ts";

const TYPED = {
  recipe_id: "typed",
  title: "Typed",
  description: "Takes parameters",
  command: ["/bin/sh", "-c", String.raw`printf '<%s>' "$@"`, "argv"],
  args_help: "any words",
  params: [
    { name: "limit", type: "integer", minimum: 1, required: true, description: "How many" },
    { name: "text", type: "string" },
    { name: "mode", type: "enum", enum: ["1", "full"], default: "full" },
    { name: "force", type: "boolean" },
  ],
};
const PARAMS = ["--param", "limit=5", "--param", "text=7=true", "--param", "mode=1", "--param", "force=true"];
const WORDS = "<--limit><5><--text><7=true><--mode><1><--force><last>";

/** A proxy before the Hub, and the Prefer of each request for a script's run. */
async function listened(hub: Hub) {
  const asked: (string | undefined)[] = [];
  const url = await serve((request, response) => {
    const prefer = request.headers["prefer"] as string | undefined;
    if (request.url!.includes("/scripts/")) asked.push(prefer);
    const headers = {
      authorization: request.headers.authorization!,
      ...(prefer !== undefined && { prefer }),
    };
    void fetch(hub.url + request.url!, { headers }).then(
      async (answer) => response.writeHead(answer.status).end(await answer.text()),
      () => response.destroy(),
    );
  });
  return { url, asked };
}

test("hub run --param sends each value in the type that the list of recipes names", async () => {
  await using hub = await startHub({ recipes: [TYPED] });

  const ran = await cli(hub, ["run", "typed", "-f", ...PARAMS, "--", "last"]);

  expect(ran).toMatchObject({ code: 0, stdout: expect.stringContaining(WORDS) });
});

test("hub run --param works with a key that cannot list recipes: the type follows the look of a value", async () => {
  const writer = { name: "writer", key: "sk_test_writer_0123456789", scopes: ["pipelines:write" as const] };
  await using hub = await startHub({ recipes: [TYPED], keys: [writer] });
  const env = { HUB_KEY: writer.key };

  const ran = await cli(hub, ["run", "typed", "--param", "limit=5", "--param", "force=true"], { env });

  expect(ran).toMatchObject({ code: 0, stderr: expect.stringContaining("--limit 5 --mode full --force") });
});

test("hub run reports a wrong --param in one sentence", async () => {
  await using hub = await startHub({ recipes: [TYPED] });
  const run = (...params: string[]) => cli(hub, ["run", "typed", ...params.flatMap((p) => ["--param", p])]);

  const [shapeless, twice, fraction, unknown, missing] = await Promise.all([
    run("limit"),
    run("limit=1", "limit=2"),
    run("limit=1.5"),
    run("limit=1", "other=x"),
    cli(hub, ["run", "typed"]),
  ]);

  expect(shapeless).toMatchObject({ code: 64, stderr: expect.stringContaining("name=value") });
  expect(twice).toMatchObject({ code: 64, stderr: expect.stringContaining("duplicate") });
  expect(fraction.stderr).toContain("hub: --param limit: must be a whole number");
  expect(unknown.stderr).toContain("--param other: unknown parameter");
  expect(missing).toMatchObject({
    code: 69,
    stderr: expect.stringContaining("--param limit: is missing"),
  });
});

test("hub recipes prints the parameters and arguments of a launch", async () => {
  await using hub = await startHub({ recipes: [TYPED] });

  const { stdout } = await cli(hub, ["recipes"]);

  expect(stdout).toContain("--param limit=… (integer, from 1, required)  How many\n");
  expect(stdout).toContain("--param mode=… (1|full, default full)\n");
  expect(stdout).toContain("arguments after --:\n    any words\n");
});

test("hub run --dry-run prints what would start, starts nothing, and exits with 0 only if it would start", async () => {
  const broken = { ...TYPED, recipe_id: "broken", command: ["no-such-program"], params: [] };
  await using hub = await startHub({ recipes: [TYPED, broken] });

  const shown = await cli(hub, ["run", "typed", "--dry-run", "--param", "limit=5"]);
  const json = await cli(hub, ["run", "typed", "--dry-run", "--param", "limit=5", "--json"]);
  const no = await cli(hub, ["run", "broken", "--dry-run"]);
  const script = await cli(hub, ["script", await hub.script("a.sh", "true"), "--dry-run"]);
  const both = await cli(hub, ["run", "typed", "--dry-run", "-f"]);

  expect(shown).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^starts +yes\ncommand .*--limit 5 --mode full\n/),
  });
  expect(JSON.parse(json.stdout) as LaunchPreview).toMatchObject({ dry_run: true, would_start: true });
  expect(no).toMatchObject({
    code: 69,
    stdout: expect.stringMatching(
      /^starts +no: Cannot start it: program "[^"]+" was not found or is not executable/,
    ),
  });
  expect(script).toMatchObject({ code: 0, stdout: expect.stringContaining("sha256") });
  expect(both.code).toBe(64);
  expect((await hub.get("/api/v1/pipelines/runs")).json.runs).toEqual([]);
});

test("hub shows a run's label, and hub runs --label finds it", async () => {
  await using hub = await startHub();
  const label = "nightly 🌙 'x'";
  const labelled = (await cli(hub, ["run", "hello", "--label", label])).stdout.trim();
  await cli(hub, ["run", "hello"]);

  const found = await cli(hub, ["runs", "--label", label, "--json"]);
  const table = await cli(hub, ["runs"]);
  const shown = await cli(hub, ["show", labelled]);

  const { runs } = JSON.parse(found.stdout) as { runs: RunRecord[] };
  expect(runs.map(({ run_id }) => run_id)).toEqual([labelled]);
  expect(table.stdout).toMatch(/KEY +LABEL +WHAT/);
  expect(shown.stdout).toContain(`label      ${label}\n`);
});

test("hub run --callback sends the URL to the API", async () => {
  await using hub = await startHub();

  const ran = await cli(hub, ["run", "hello", "--callback", "https://hooks.example.com/"]);

  expect(ran).toMatchObject({ code: 69, stderr: expect.stringContaining("hub: --callback: ") });
});

test("hub wait sends one request, which is answered at the end of the run", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("sleep 300");
  const { url, asked } = await listened(hub);
  const waiting = startCli(url, ["wait", run.run_id]);
  await expect.poll(() => asked, PATIENTLY).toEqual([undefined, "wait=30"]);

  await hub.kill(run);

  expect((await waiting.finished).code).toBe(143);
  expect(asked).toHaveLength(2);
});

test("hub wait ends with a server that does not support waiting, with a pause between requests", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("sleep 1; exit 3");
  let count = 0;
  // The proxy of this test drops the header Prefer.
  const url = await faulty(hub, () => {
    count++;
    return "pass";
  });

  const waited = await cli(url, ["wait", run.run_id]);

  expect(waited.code).toBe(3);
  expect(count).toBeLessThan(15);
});

test("Ctrl-C in hub wait leaves the run alone, and hub prints how to follow it", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("sleep 300");
  const { url, asked } = await listened(hub);
  const waiting = startCli(url, ["wait", run.run_id]);
  await expect.poll(() => asked, PATIENTLY).toContain("wait=30");

  waiting.child.kill("SIGINT");

  expect(await waiting.finished).toMatchObject({ code: 130, stderr: expect.stringContaining("detached") });
  expect(await hub.run(run)).toMatchObject({ status: "running" });
});

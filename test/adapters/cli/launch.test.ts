import { describe, expect, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { type Hub, startHub } from "../../support/hub.ts";
import { cli, faulty, startCli, PATIENTLY } from "./cli.ts";

const NASTY = [
  "",
  " ",
  "a b",
  "'",
  '"',
  "\\",
  "\\'",
  "$(touch pwned)",
  "`id`",
  "${HOME}",
  "*",
  "~",
  ";rm -rf /",
  "&&",
  "|",
  "line\nfeed",
  "\ttab",
  "é한😀",
  "--",
  "--json",
  "-f",
  "--help",
  "!history",
  "#comment",
  "%s",
  "\u001b[31m",
];

async function runsOf(hub: Hub): Promise<RunRecord[]> {
  return (await hub.get("/api/v1/pipelines/runs?limit=100")).json.runs as RunRecord[];
}

describe("hub run", () => {
  test("words after -- arrive in the job exactly as typed", async () => {
    const argv = {
      recipe_id: "argv",
      title: "Argv",
      description: "Prints its words",
      command: ["/bin/sh", "-c", String.raw`printf '<%s>\0' "$@"`, "argv"],
    };
    await using hub = await startHub({ recipes: [argv] });

    const ran = await cli(hub, ["run", "argv", "-f", "--", ...NASTY]);

    expect(ran).toMatchObject({ code: 0 });
    expect(ran.stdout).toBe(NASTY.map((word) => `<${word}>\0`).join(""));
  });

  test("a launch whose answers are lost is asked for again, and starts once", async () => {
    await using hub = await startHub();
    const faults = ["lose", { status: 503 }, "cut"] as const;
    const url = await faulty(hub, (_request, count) => faults[count] ?? "pass");

    const ran = await cli(url, ["run", "hello"]);

    expect(ran.code).toBe(0);
    expect(ran.stderr.match(/trying again/g)).toHaveLength(3);
    expect((await runsOf(hub)).map(({ run_id }) => run_id)).toEqual([ran.stdout.trim()]);
  });

  test("a recipe that is not there is told with the command that lists them", async () => {
    await using hub = await startHub();

    for (const options of [[], ["--dry-run"]]) {
      expect(await cli(hub, ["run", "nope", ...options])).toEqual({
        code: 69,
        stdout: "",
        stderr: "hub: there is no recipe nope; `hub recipes` lists them\n",
      });
    }
  });

  test("a refusal with Retry-After is waited out", async () => {
    await using hub = await startHub();
    const busy = { status: 429, headers: { "retry-after": "1" } };
    const url = await faulty(hub, (_request, count) => (count === 0 ? busy : "pass"));

    const ran = await cli(url, ["run", "hello"]);

    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain("trying again in 1.0 s");
  });

  test("a pause longer than the time for retries is not begun, and the key to repeat with is told", async () => {
    await using hub = await startHub();
    const url = await faulty(hub, () => ({ status: 429, headers: { "retry-after": "600" } }));

    const ran = await cli(url, ["run", "hello", "--key", "it's mine"]);

    expect(ran).toMatchObject({ code: 69, stdout: "" });
    expect(ran.stderr).toContain(String.raw`--key 'it'\''s mine'`);
  });

  test("the same --key starts one run, and another body with it is refused", async () => {
    await using hub = await startHub();

    const first = await cli(hub, ["run", "hello", "--key", "nightly"]);
    const second = await cli(hub, ["run", "hello", "--key", "nightly"]);
    const other = await cli(hub, ["run", "hello", "--key", "nightly", "--", "x"]);

    expect(second.stdout).toBe(first.stdout);
    expect(first.stderr).toContain(`${first.stdout.trim()} started: `);
    expect(second.stderr).toContain(`${first.stdout.trim()} was started before with this key: `);
    expect(other).toMatchObject({ code: 69, stderr: expect.stringContaining("idempotency_key_reused") });
    expect(await runsOf(hub)).toHaveLength(1);
  });

  test("Ctrl-C in the middle of a launch says how to repeat it safely", async () => {
    await using hub = await startHub();
    const url = await faulty(hub, () => ({ status: 503, headers: { "retry-after": "30" } }));
    const running = startCli(url, ["run", "hello", "--key", "k1"]);
    await expect.poll(running.stderr, PATIENTLY).toContain("trying again");

    running.child.kill("SIGINT");

    expect(await running.finished).toMatchObject({ code: 130, stderr: expect.stringContaining("--key k1") });
  });

  test("-f --json gives pages of the log and at last the record, an object a line", async () => {
    await using hub = await startHub();

    const ran = await cli(hub, ["run", "hello", "-f", "--json", "--", "you"]);
    const lines = ran.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);

    expect(lines.at(0)).toMatchObject({ chunk: "hello you\n", offset: 10 });
    expect(lines.at(-1)).toMatchObject({ status: "completed", exit_code: 0 });
  });
});

describe("the exit code", () => {
  test.for([
    ["exit 0", 0],
    ["exit 3", 3],
    ["exit 64", 64],
    ["exit 255", 255],
    ["kill -SEGV $$", 139],
    ["echo 'Traceback (most recent call last):'; exit 0", 1],
  ] as const)("of a run that does `%s` is %i with -f, --wait and wait", async ([text, code]) => {
    await using hub = await startHub();
    const path = await hub.script("job.sh", text);

    const followed = await cli(hub, ["script", path, "-f"]);
    const [waited, again] = await Promise.all([
      cli(hub, ["script", path, "--wait"]),
      cli(hub, ["wait", /run_\w+/.exec(followed.stderr)![0]]),
    ]);

    expect([followed.code, waited.code, again.code]).toEqual([code, code, code]);
  });

  test("of a run that is killed meanwhile is 143", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("echo up; sleep 300");
    const waiting = startCli(hub, ["wait", run.run_id]);
    const following = startCli(hub, ["logs", run.run_id, "-f"]);
    await expect.poll(following.stdout, PATIENTLY).toBe("up\n");

    await hub.kill(run);

    expect((await waiting.finished).code).toBe(143);
    expect((await following.finished).code).toBe(143);
  });
});

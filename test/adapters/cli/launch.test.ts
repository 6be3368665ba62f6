import { describe, expect, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { ALL, type Hub, startHub } from "../../support/hub.ts";
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

const FAULTS = {
  lose: "lose",
  busy: { status: 429, headers: { "retry-after": "600" }, body: '{"code":"too_many_runs","detail":"Full"}' },
  denied: { status: 403, body: '{"code":"insufficient_scope","detail":"No"}' },
} as const;

async function runsOf(hub: Hub): Promise<RunRecord[]> {
  return (await hub.get("/api/v1/pipelines/runs?limit=100")).json.runs as RunRecord[];
}

describe("hub run", () => {
  test("arguments after -- arrive in the job exactly as typed", async () => {
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

  test("hub run repeats a launch whose answers are lost, and it starts once", async () => {
    await using hub = await startHub();
    const faults = ["lose", { status: 503 }, "cut"] as const;
    const url = await faulty(hub, (_request, count) => faults[count] ?? "pass");

    const ran = await cli(url, ["run", "hello"]);

    expect(ran.code).toBe(0);
    expect(ran.stderr.match(/trying again/g)).toHaveLength(3);
    expect((await runsOf(hub)).map(({ run_id }) => run_id)).toEqual([ran.stdout.trim()]);
  });

  test("hub run reports an unknown recipe with the command that lists the recipes", async () => {
    await using hub = await startHub();

    for (const options of [[], ["--dry-run"]]) {
      expect(await cli(hub, ["run", "nope", ...options])).toEqual({
        code: 69,
        stdout: "",
        stderr: "hub: recipe nope does not exist. List the recipes with `hub recipes`\n",
      });
    }
  });

  test("hub run waits as long as Retry-After of a refusal", async () => {
    await using hub = await startHub();
    const busy = { status: 429, headers: { "retry-after": "1" } };
    const url = await faulty(hub, (_request, count) => (count === 0 ? busy : "pass"));

    const ran = await cli(url, ["run", "hello"]);

    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain("trying again in 1.0 s");
  });

  test("hub run does not begin a pause longer than the time for retries, and prints the key to repeat the launch with", async () => {
    await using hub = await startHub();
    const url = await faulty(hub, () => ({ status: 503, headers: { "retry-after": "600" } }));

    const ran = await cli(url, ["run", "hello", "--key", "it's mine"]);

    expect(ran).toMatchObject({ code: 69, stdout: "" });
    expect(ran.stderr).toContain(String.raw`--key 'it'\''s mine'`);
  });

  test.for([
    [["busy"], "Nothing was started"],
    [["lose", "busy"], "may have started"],
    [["lose", "denied"], "may have started"],
    [["denied"], "none"],
  ] as const)(
    "hub says that a run may have started only if an answer was lost: after %j it says %j",
    async ([faults, says]) => {
      await using hub = await startHub();
      const url = await faulty(hub, (_request, count) => FAULTS[faults[count] ?? "busy"]);

      const ran = await cli(url, ["run", "hello", "--retry", "3"]);

      expect(ran).toMatchObject({ code: 69, stdout: "" });
      const last = ran.stderr.trimEnd().split("\n").at(-1)!;
      const found = ["Nothing was started", "may have started"].filter((words) => last.includes(words));
      expect(found).toEqual(says === "none" ? [] : [says]);
      expect(last.includes("--key")).toBe(says === "may have started");
      expect((await runsOf(hub)).length).toBe(faults[0] === "lose" ? 1 : 0);
    },
  );

  test.for(["-f", "--wait"])(
    "hub run %s with a key that may not read reports the run as started, and its end as unknown",
    async (flag) => {
      const key = { name: "w", key: "sk_test_w_0123456789abcdef", scopes: ["pipelines:write" as const] };
      await using hub = await startHub({ keys: [key, ALL] });

      const ran = await cli(hub, ["run", "hello", flag], { env: { HUB_KEY: key.key } });

      const [run] = await runsOf(hub);
      expect(ran).toMatchObject({ code: 70, stdout: "" });
      expect(ran.stderr).toContain(`${run!.run_id} was started and continues, but it cannot be followed`);
      expect(ran.stderr).toContain("pipelines:read");
    },
  );

  test("the same --key starts one run, and hub reports another body with it as refused", async () => {
    await using hub = await startHub();

    const first = await cli(hub, ["run", "hello", "--key", "nightly"]);
    const second = await cli(hub, ["run", "hello", "--key", "nightly"]);
    const other = await cli(hub, ["run", "hello", "--key", "nightly", "--", "x"]);

    expect(second.stdout).toBe(first.stdout);
    expect(first.stderr).toContain(`${first.stdout.trim()} started: `);
    expect(second.stderr).toContain(`${first.stdout.trim()} was already started with this key: `);
    expect(other).toMatchObject({ code: 69, stderr: expect.stringContaining("idempotency_key_reused") });
    expect(await runsOf(hub)).toHaveLength(1);
  });

  test("Ctrl-C during a launch prints how to repeat it safely", async () => {
    await using hub = await startHub();
    const url = await faulty(hub, () => ({ status: 503, headers: { "retry-after": "30" } }));
    const running = startCli(url, ["run", "hello", "--key", "k1"]);
    await expect.poll(running.stderr, PATIENTLY).toContain("trying again");

    running.child.kill("SIGINT");

    expect(await running.finished).toMatchObject({ code: 130, stderr: expect.stringContaining("--key k1") });
  });

  test("hub run -f --json prints the pages of the log and then the record, one object on each line", async () => {
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

describe("the exit code of hub", () => {
  test.for([
    ["exit 0", 0],
    ["exit 3", 3],
    ["exit 64", 64],
    ["exit 255", 255],
    ["kill -SEGV $$", 139],
    ["echo 'Traceback (most recent call last):'; exit 0", 1],
  ] as const)(
    "a run that does `%s` makes hub exit with %i with -f, --wait and wait",
    async ([text, code]) => {
      await using hub = await startHub();
      const path = await hub.script("job.sh", text);

      const followed = await cli(hub, ["script", path, "-f"]);
      const [waited, again] = await Promise.all([
        cli(hub, ["script", path, "--wait"]),
        cli(hub, ["wait", /run_\w+/.exec(followed.stderr)![0]]),
      ]);

      expect([followed.code, waited.code, again.code]).toEqual([code, code, code]);
    },
  );

  test("a run that is killed meanwhile makes hub exit with 143", async () => {
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

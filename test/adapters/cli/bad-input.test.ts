import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:https";
import { fileURLToPath } from "node:url";

import { describe, expect, onTestFinished, test } from "vitest";

import { startHub } from "../../support/hub.ts";
import { BIN, cli, clientEnv, type Finished, listening, serve } from "./cli.ts";
import { runRecord } from "../../support/runs.ts";

const NOWHERE = "http://127.0.0.1:1";
const RUN = "run_000000000000";
const EVIL = "\u001b]0;owned\u0007\u001b[2J\u009b1m";

/** One sentence for a person, without a stack trace or file names. */
function expectSentence({ stderr }: Finished): void {
  expect(stderr).toMatch(/^hub: [^\n]+\n$/);
  expect(stderr).not.toMatch(/node:|\.ts:\d|\bat .*\(/);
}

describe("a mistake in the command line of hub", () => {
  test.for([
    { args: ["rnus"], says: "Did you mean run" },
    { args: ["exit"], says: "unknown command 'exit'. List the commands with `hub --help`\n" },
    { args: ["runs", "--status", "done"], says: "Allowed choices" },
    { args: ["runs", "--limit", "0"], says: "whole number" },
    { args: ["runs", "--limit", "1e3"], says: "whole number" },
    { args: ["show"], says: "missing required argument" },
    { args: ["show", "../../etc/passwd"], says: "is not a run id" },
    { args: ["run", "hello", "word"], says: "arguments of the job go after --" },
    { args: ["run", "hello", "--limit", "5"], says: "arguments of the job go after --" },
    { args: ["script", "a.sh", "--mode", "full"], says: "arguments of the job go after --" },
    { args: ["runs", "--mode", "full"], says: "unknown option '--mode'\n" },
    { args: ["run", "hello", "-f", "--wait"], says: "remove --wait" },
    { args: ["run", "hello", "--key", "é"], says: "printable ASCII" },
    { args: ["recipes", "--", "word"], says: "only run and script" },
    { args: ["logs", RUN, "--since-start", "--tail", "3"], says: "exclude each other" },
    { args: ["kill", RUN, "--signal", "SIGSTOP"], says: "Allowed choices" },
    { args: ["--host", "nobody", "runs"], says: "hub login --host nobody" },
    { args: ["--host", "__proto__", "runs"], says: "no host named" },
    { args: ["completion", "tcsh"], says: "Allowed choices" },
  ])("hub $args prints one sentence and exits with 64", async ({ args, says }) => {
    const reported = await cli(NOWHERE, args);

    expect(reported).toMatchObject({ code: 64, stdout: "" });
    expect(reported.stderr).toContain(says);
    expectSentence(reported);
  });

  test.for(["hub example.com", "ftp://hub", "http://", "https://user:pw@hub", "http://hub/?key=x"])(
    "hub with HUB_URL=%s prints one sentence and exits with 64",
    async (url) => {
      const reported = await cli(url, ["runs"]);

      expect(reported.code).toBe(64);
      expect(reported.stderr).toContain("HUB_URL must be");
      expectSentence(reported);
    },
  );

  test("hub on a Node that is too old prints one sentence", async () => {
    const old = `data:text/javascript,${encodeURIComponent(`Object.defineProperty(process, "versions", { value: { node: "20.20.2" } })`)}`;

    const reported = await cli(NOWHERE, ["runs"], { env: { NODE_OPTIONS: `--import=${old}` } });

    expect(reported.code).toBe(69);
    expect(reported.stderr).toContain("needs Node 24.16 or newer");
    expectSentence(reported);
  });

  test("hub without arguments prints the help and exits with 64", async () => {
    const reported = await cli(NOWHERE, []);

    expect(reported).toMatchObject({ code: 64, stdout: "" });
    expect(reported.stderr).toContain("Usage: hub");
  });
});

describe("a server that is not a Hub", () => {
  const html = { "content-type": "text/html" };
  test.for([
    { is: "a web page", status: 200, headers: html, body: "<html>\u001b[2J", says: "is not a JSON object" },
    { is: "a JSON null", status: 200, headers: {}, body: "null", says: "is not a JSON object" },
    { is: "an answer without the fields", status: 200, headers: {}, body: "{}", says: "older version" },
    { is: "no such route", status: 404, headers: html, body: "nope", says: "no such route" },
    {
      is: "a redirect",
      status: 302,
      headers: { location: "https://new.example/\u0007" },
      body: "",
      says: "redirects to",
    },
    { is: "a bare 500", status: 500, headers: html, body: "<html>", says: "answered 500" },
    {
      is: "a hostile detail",
      status: 403,
      headers: {},
      body: JSON.stringify({ code: "x", detail: "a\n\u001b]0;b\u0007\u202e" }),
      says: "a ^[]0;b^G<U+202E>",
    },
  ])("hub reports $is in one sentence and exits with 69", async ({ status, headers, body, says }) => {
    const safe = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, value.replace("\u0007", "")]),
    );
    const url = await serve((request, response) => {
      request.resume();
      response.writeHead(status, safe).end(body);
    });

    const calls = [["recipes"], ["show", RUN], ["run", "hello"]];
    for (const reported of await Promise.all(calls.map((args) => cli(url, args)))) {
      expect(reported).toMatchObject({ code: 69, stdout: "" });
      expect(reported.stderr).toContain(says);
      expectSentence(reported);
    }
  });

  test.for(["run_id", "source", "started_at", "ended_at", "exit_code", "status", "spec"])(
    "hub takes no text for a record's %s, so that no command line of another server is offered for copying",
    async (field) => {
      const record = { ...runRecord({ run_id: RUN, source: "pipeline" }), [field]: { [EVIL]: EVIL } };
      const url = await serve((request, response) => {
        request.resume();
        response.end(JSON.stringify(request.url!.includes("?") ? { runs: [record] } : record));
      });

      for (const args of [["show", RUN], ["runs"], ["kill", RUN], ["run", "hello"]]) {
        const reported = await cli(url, [...args, "--retry", "0"]);
        expect([args[0], reported.code, reported.stdout]).toEqual([args[0], 69, ""]);
        expect(reported.stderr).toContain(field);
        expect(reported.stderr).not.toContain("\u001b");
      }
    },
  );

  test("hub shows escapes of a terminal as text in every field of every answer", async () => {
    const evil = `x${EVIL}`;
    const record = runRecord({
      run_id: RUN,
      source: "pipeline",
      spec: { recipe_id: evil, args: evil, params: { [evil]: evil } },
      ...Object.fromEntries(
        [
          "pid",
          "cmd",
          "log_path",
          "status",
          "status_reason",
          "signal",
          "label",
          "key_name",
          "spec_sha256",
        ].map((field) => [field, evil]),
      ),
    });
    const ended = { ...record, ended_at: record.started_at, exit_code: 3 };
    const limits = { timeout_seconds: evil, running: evil, max_running: evil, host_running: evil };
    const answers: Record<string, object> = {
      recipes: {
        recipes: [{ recipe_id: evil, title: evil, description: evil, args_help: evil, params: [] }],
      },
      scripts: { scripts: [{ path: evil, size: evil, modified_at: evil }], truncated: true },
      show: record,
      kill: record,
      wait: ended,
      runs: { runs: [record], next_cursor: null },
      script: record,
      run: {
        dry_run: true,
        would_start: false,
        reason: evil,
        cmd: evil,
        argv: [evil],
        cwd: evil,
        log_path_pattern: evil,
        environment: [evil],
        spec_sha256: evil,
        limits: { ...limits, host_max_running: evil },
      },
    };
    const shown = await Promise.all(
      Object.entries(answers).map(async ([command, answer]) => {
        const url = await serve((request, response) => {
          request.resume();
          response.end(JSON.stringify(answer));
        });
        const words = { run: ["x", "--dry-run"], script: ["/x.sh"], show: [RUN], kill: [RUN], wait: [RUN] };
        return cli(url, [command, ...(words[command as keyof typeof words] ?? []), "--retry", "0"]);
      }),
    );

    for (const { code, stdout, stderr } of shown) {
      expect((stdout + stderr).split(/\r?\n/).map((line) => line.replaceAll(/\p{Cc}/gu, "!"))).toEqual(
        (stdout + stderr).split("\n"),
      );
      expect([0, 3, 69, 70]).toContain(code);
    }
    const silent = Object.keys(answers).filter(
      (_, i) => !(shown[i]!.stdout + shown[i]!.stderr).includes("^["),
    );
    expect(silent, "a kill under way names nothing but the run").toEqual(["kill"]);
  });

  test("hub reports a log without offsets in one sentence and exits with 69", async () => {
    const url = await serve(
      (_request, response) => void response.end(JSON.stringify(runRecord({ run_id: RUN }))),
    );

    const reported = await cli(url, ["logs", RUN, "-f"]);

    expect(reported).toMatchObject({ code: 69, stdout: "" });
    expectSentence(reported);
  });

  test("hub reports an untrusted certificate in one sentence without a retry, and accepts it with NODE_EXTRA_CA_CERTS", async () => {
    const file = fileURLToPath(new URL("fixtures/self-signed.pem", import.meta.url));
    const pem = await readFile(file, "utf8");
    const server = createServer({ key: pem, cert: pem }, (_request, response) => {
      response.end(JSON.stringify({ recipes: [] }));
    });
    const url = await listening(server, "https");

    const reported = await cli(url, ["run", "hello"]);
    const trusted = await cli(url, ["recipes"], { env: { NODE_EXTRA_CA_CERTS: file } });

    expect(reported).toMatchObject({ code: 69, stdout: "" });
    expect(reported.stderr).toContain("NODE_EXTRA_CA_CERTS");
    expectSentence(reported);
    expect(trusted.code).toBe(0);
  });

  test("hub reports a server without TLS as the cause when https:// is used", async () => {
    const plain = await serve((_request, response) => void response.end());

    const reported = await cli(plain.replace("http", "https"), ["recipes"]);

    expect(reported.code).toBe(69);
    expect(reported.stderr).toContain("does not use TLS");
    expectSentence(reported);
  });

  test("hub reports a refused connection in one sentence and exits with 69", async () => {
    const gone = createServer();
    const url = await listening(gone, "http");
    gone.close();

    const reported = await cli(url, ["recipes", "--retry", "0"]);

    expect(reported).toMatchObject({
      code: 69,
      stderr: `hub: cannot reach ${url}: connection refused\n`,
    });
  });

  test("hub names the ways to get a Hub when no address was given and nothing answers", async () => {
    // Something may listen there on the machine of the tests.
    const refuse = `data:text/javascript,${encodeURIComponent(`globalThis.fetch = async () => { throw new TypeError("fetch failed", { cause: Object.assign(new Error(), { code: "ECONNREFUSED" }) }) }`)}`;

    const reported = await cli("", ["runs", "--retry", "0"], { env: { NODE_OPTIONS: `--import=${refuse}` } });

    expect(reported).toMatchObject({
      code: 69,
      stderr:
        "hub: cannot reach http://127.0.0.1:8787: connection refused. Start a Hub with `npm start`, or name another one with HUB_URL or `hub login`\n",
    });
  });

  test("a launch that no server received is reported as not started", async () => {
    const launched = await cli(NOWHERE.replace(":1", ":2"), ["run", "hello", "--retry", "0"]);

    expect(launched).toMatchObject({ code: 69, stderr: expect.stringContaining("Nothing was started\n") });
    expect(launched.stderr).not.toContain("may have started");
  });
});

describe("an API key", () => {
  test("hub reports a missing or a wrong API key and what to do, and exits with 69", async () => {
    await using hub = await startHub();

    const [missing, wrong, unsendable] = await Promise.all([
      cli(hub, ["recipes"], { env: { HUB_KEY: "" } }),
      cli(hub, ["recipes"], { env: { HUB_KEY: "sk_wrong" } }),
      cli(hub, ["recipes"], { env: { HUB_KEY: "a\nb" } }),
    ]);

    expect(missing).toMatchObject({ code: 69, stderr: expect.stringContaining("hub login") });
    expect(wrong).toMatchObject({
      code: 69,
      stderr: expect.stringContaining("does not accept this API key"),
    });
    expect(wrong.stderr).not.toContain("sk_wrong");
    expect(unsendable).toMatchObject({ code: 64, stderr: expect.stringContaining("printable ASCII") });
  });

  test("hub names the scope that an API key does not have", async () => {
    const key = { name: "reader", key: "sk_test_reader_0123456789abc", scopes: ["pipelines:read" as const] };
    await using hub = await startHub({ keys: [key] });

    const reported = await cli(hub, ["run", "hello"], { env: { HUB_KEY: key.key } });

    expect(reported).toMatchObject({ code: 69, stderr: expect.stringContaining("pipelines:write") });
    expectSentence(reported);
  });
});

describe("a pipe", () => {
  test("a closed pipe ends hub silently with the exit code of SIGPIPE", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("yes | head -c 3000000");
    await hub.ended(run);
    const shell = spawn(
      "bash",
      ["-c", `"$0" "$1" logs ${run.run_id} | head -1; echo "codes \${PIPESTATUS[*]}"`, process.execPath, BIN],
      { env: clientEnv(hub) },
    );
    onTestFinished(() => void shell.kill("SIGKILL"));
    let stdout = "";
    let stderr = "";
    shell.stdout.on("data", (piece: Buffer) => (stdout += piece.toString()));
    shell.stderr.on("data", (piece: Buffer) => (stderr += piece.toString()));
    await once(shell, "close");

    expect(stdout).toBe("y\ncodes 141 0\n");
    expect(stderr).toBe("");
  });

  test("a slow reader of hub logs gets all of a large log", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("yes | head -c 20000000");
    await hub.ended(run);
    const shell = spawn(
      "bash",
      ["-c", `"$0" "$1" logs ${run.run_id} | (sleep 0.5; wc -c)`, process.execPath, BIN],
      { env: clientEnv(hub) },
    );
    onTestFinished(() => void shell.kill("SIGKILL"));
    let stdout = "";
    shell.stdout.on("data", (piece: Buffer) => (stdout += piece.toString()));
    await once(shell, "close");

    expect(stdout.trim()).toBe("20000000");
  });
});

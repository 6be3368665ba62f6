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

/** One sentence for a person, and nothing of our insides. */
function expectSentence({ stderr }: Finished): void {
  expect(stderr).toMatch(/^hub: [^\n]+\n$/);
  expect(stderr).not.toMatch(/node:|\.ts:\d|\bat .*\(/);
}

describe("a mistake in the command line", () => {
  test.for([
    { args: ["rnus"], says: "Did you mean run" },
    { args: ["runs", "--status", "done"], says: "Allowed choices" },
    { args: ["runs", "--limit", "0"], says: "whole number" },
    { args: ["runs", "--limit", "1e3"], says: "whole number" },
    { args: ["show"], says: "missing required argument" },
    { args: ["show", "../../etc/passwd"], says: "is no run" },
    { args: ["run", "hello", "word"], says: "words for the job go after --" },
    { args: ["run", "hello", "--limit", "5"], says: "words for the job go after --" },
    { args: ["script", "a.sh", "--mode", "full"], says: "words for the job go after --" },
    { args: ["runs", "--mode", "full"], says: "unknown option '--mode'\n" },
    { args: ["run", "hello", "-f", "--wait"], says: "leave --wait out" },
    { args: ["run", "hello", "--key", "é"], says: "printable ASCII" },
    { args: ["recipes", "--", "word"], says: "only run and script" },
    { args: ["logs", RUN, "--since-start", "--tail", "3"], says: "exclude each other" },
    { args: ["kill", RUN, "--signal", "SIGSTOP"], says: "Allowed choices" },
    { args: ["--host", "nobody", "runs"], says: "hub login --host nobody" },
    { args: ["--host", "__proto__", "runs"], says: "no host named" },
    { args: ["completion", "tcsh"], says: "Allowed choices" },
  ])("$args is told in a sentence, with code 64", async ({ args, says }) => {
    const told = await cli(NOWHERE, args);

    expect(told).toMatchObject({ code: 64, stdout: "" });
    expect(told.stderr).toContain(says);
    expectSentence(told);
  });

  test.for(["hub.example.com", "ftp://hub", "http://", "https://user:pw@hub", "http://hub/?key=x"])(
    "HUB_URL=%s is told in a sentence, with code 64",
    async (url) => {
      const told = await cli(url, ["runs"]);

      expect(told.code).toBe(64);
      expect(told.stderr).toContain("HUB_URL must be");
      expectSentence(told);
    },
  );

  test("a Node that is too old is told in a sentence", async () => {
    const old = `data:text/javascript,${encodeURIComponent(`Object.defineProperty(process, "versions", { value: { node: "20.20.2" } })`)}`;

    const told = await cli(NOWHERE, ["runs"], { env: { NODE_OPTIONS: `--import=${old}` } });

    expect(told.code).toBe(69);
    expect(told.stderr).toContain("needs Node 24.16 or newer");
    expectSentence(told);
  });

  test("nothing at all shows the help, with code 64", async () => {
    const told = await cli(NOWHERE, []);

    expect(told).toMatchObject({ code: 64, stdout: "" });
    expect(told.stderr).toContain("Usage: hub");
  });
});

describe("a server that is not what it should be", () => {
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
  ])("$is is told in a sentence, with code 69", async ({ status, headers, body, says }) => {
    const safe = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, value.replace("\u0007", "")]),
    );
    const url = await serve((request, response) => {
      request.resume();
      response.writeHead(status, safe).end(body);
    });

    const calls = [["recipes"], ["show", RUN], ["run", "hello"]];
    for (const told of await Promise.all(calls.map((args) => cli(url, args)))) {
      expect(told).toMatchObject({ code: 69, stdout: "" });
      expect(told.stderr).toContain(says);
      expectSentence(told);
    }
  });

  test("a log without offsets is told in a sentence, with code 69", async () => {
    const url = await serve(
      (_request, response) => void response.end(JSON.stringify(runRecord({ run_id: RUN }))),
    );

    const told = await cli(url, ["logs", RUN, "-f"]);

    expect(told).toMatchObject({ code: 69, stdout: "" });
    expectSentence(told);
  });

  test("an untrusted certificate is told in a sentence and never asked again; NODE_EXTRA_CA_CERTS makes it good", async () => {
    const file = fileURLToPath(new URL("fixtures/self-signed.pem", import.meta.url));
    const pem = await readFile(file, "utf8");
    const server = createServer({ key: pem, cert: pem }, (_request, response) => {
      response.end(JSON.stringify({ recipes: [] }));
    });
    const url = await listening(server, "https");

    const told = await cli(url, ["run", "hello"]);
    const trusted = await cli(url, ["recipes"], { env: { NODE_EXTRA_CA_CERTS: file } });

    expect(told).toMatchObject({ code: 69, stdout: "" });
    expect(told.stderr).toContain("NODE_EXTRA_CA_CERTS");
    expectSentence(told);
    expect(trusted.code).toBe(0);
  });

  test("TLS to a server without and HTTP to a server with it are told apart", async () => {
    const plain = await serve((_request, response) => void response.end());

    const told = await cli(plain.replace("http", "https"), ["recipes"]);

    expect(told.code).toBe(69);
    expect(told.stderr).toContain("does not speak TLS");
    expectSentence(told);
  });

  test("nobody there is told in a sentence, with code 69", async () => {
    const gone = createServer();
    const url = await listening(gone, "http");
    gone.close();

    const told = await cli(url, ["recipes", "--retry", "0"]);

    expect(told).toMatchObject({
      code: 69,
      stderr: `hub: cannot reach ${url}: nothing listens there\n`,
    });
  });

  test("nobody at the address that is asked when none was given is told with how to get a Hub", async () => {
    // Something may listen there on the machine of the tests.
    const refuse = `data:text/javascript,${encodeURIComponent(`globalThis.fetch = async () => { throw new TypeError("fetch failed", { cause: Object.assign(new Error(), { code: "ECONNREFUSED" }) }) }`)}`;

    const told = await cli("", ["runs", "--retry", "0"], { env: { NODE_OPTIONS: `--import=${refuse}` } });

    expect(told).toMatchObject({
      code: 69,
      stderr:
        "hub: cannot reach http://127.0.0.1:8787: nothing listens there. Start a Hub with `npm start`, or name another one with HUB_URL or `hub login`\n",
    });
  });

  test("a launch that reached nobody is not said to have perhaps started", async () => {
    const launched = await cli(NOWHERE.replace(":1", ":2"), ["run", "hello", "--retry", "0"]);

    expect(launched).toMatchObject({ code: 69, stderr: expect.stringContaining("Nothing was started\n") });
    expect(launched.stderr).not.toContain("may have started");
  });
});

describe("a key", () => {
  test("that is missing or wrong is told in a sentence with what to do, with code 69", async () => {
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

  test("that may not do it is told which scope is missing", async () => {
    const key = { name: "reader", key: "sk_test_reader_0123456789abc", scopes: ["pipelines:read" as const] };
    await using hub = await startHub({ keys: [key] });

    const told = await cli(hub, ["run", "hello"], { env: { HUB_KEY: key.key } });

    expect(told).toMatchObject({ code: 69, stderr: expect.stringContaining("pipelines:write") });
    expectSentence(told);
  });
});

describe("a reader", () => {
  test("that hangs up ends the client quietly, as SIGPIPE ends others", async () => {
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

  test("that reads slowly gets all of a big log", async () => {
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

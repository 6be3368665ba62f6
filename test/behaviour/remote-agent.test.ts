import { readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { readNodeConfig } from "../../adapters/node/config.ts";
import { serveNode } from "../../adapters/node/serve.ts";
import { unixFetch } from "../../adapters/node/unix-fetch.ts";
import { agentClient } from "../../handlers/agent-client.ts";
import { httpTransport } from "../../handlers/agent-transport.ts";
import { close, listen } from "../../host-agent/system/http-listener.ts";
import { type AgentProcess, remoteEnv, startAgentProcess } from "../support/deployments.ts";
import { type Fault, type Line, startLine } from "../support/faulty-line.ts";
import { type Deploy, type Hub, type Setup, startHub, until } from "../support/hub.ts";
import { tempDir } from "../support/temp-dir.ts";

const RUNS = "/api/v1/scripts/runs";

/** A Hub whose adapter reaches its agent over a line that can be harmed. */
async function startFaultyHub() {
  let agent: AgentProcess;
  let line: Line;
  let setup: Setup;
  const deploy: Deploy = async (given) => {
    setup = given;
    agent = await startAgentProcess(given);
    line = await startLine(join(given.dir, "line.sock"), join(given.dir, "agent.sock"));
    const env = remoteEnv(given, `unix:${join(given.dir, "line.sock")}`);
    const serving = await serveNode(readNodeConfig(env), env, () => {});
    return {
      url: serving.url,
      async stop() {
        await serving.stop();
        await line.goDown();
        await agent.stop();
      },
    };
  };
  const hub = await startHub({ deploy });
  return {
    hub,
    line: line!,
    agent: () => agent,
    async restartAgent(signal: NodeJS.Signals): Promise<void> {
      await agent.stop(signal);
      agent = await startAgentProcess(setup);
    },
    [Symbol.asyncDispose]: () => hub[Symbol.asyncDispose](),
  };
}

/** A script that leaves one line in a file each time it is run, and the number of these lines. */
async function countedScript(hub: Hub) {
  const marks = join(hub.dir, "marks");
  writeFileSync(marks, "");
  const path = await hub.script("counted.sh", `echo started >> ${marks}; sleep 60`);
  return { path, count: () => readFileSync(marks, "utf8").split("\n").length - 1 };
}

const http = (status: string, type: string, body: string): Fault => ({
  answer: `HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
});

describe("an agent that is down", () => {
  test("answers 503 with Retry-After on every route, and every route works again when it is back", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const run = await hub.runScript("sleep 60");
    await line.goDown();

    const answers = await Promise.all([
      hub.get("/api/v1/pipelines/recipes"),
      hub.get("/api/v1/scripts"),
      hub.get(RUNS),
      hub.get(`${RUNS}/${run.run_id}`),
      hub.get(`${RUNS}/${run.run_id}/logs`),
      hub.kill(run),
      hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" }),
    ]);

    for (const { status, headers, json } of answers) {
      expect([status, json.code]).toEqual([503, "agent_unavailable"]);
      expect(headers.get("retry-after")).toMatch(/^\d+$/);
    }
    expect((await fetch(`${hub.url}/healthz`)).status).toBe(503);
    await line.comeUp();
    expect(await hub.run(run)).toMatchObject({ status: "running" });
  });

  test("does not stop the edge from answering a replay that its KV knows", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const counted = await countedScript(hub);
    const launch = () => hub.post(RUNS, { path: counted.path }, { headers: { "idempotency-key": "once" } });
    const first = await launch();
    await line.goDown();

    const stale = await launch();
    await line.comeUp();
    const fresh = await launch();

    expect(first.headers.get("hub-stale")).toBeNull();
    expect([stale.status, stale.json]).toEqual([201, first.json]);
    expect(stale.headers.get("idempotent-replayed")).toBe("true");
    expect(stale.headers.get("hub-stale")).toBe("true");
    expect([fresh.status, fresh.json.run_id]).toEqual([201, first.json.run_id]);
    expect(fresh.headers.get("hub-stale")).toBeNull();
    await until(() => counted.count() === 1 || undefined);

    const other = await hub.post(
      RUNS,
      { path: counted.path, args: "x" },
      { headers: { "idempotency-key": "once" } },
    );
    expect([other.status, other.json.code]).toEqual([422, "idempotency_key_reused"]);
  });
});

describe("an agent with invalid answers", () => {
  const nonsense: [string, Fault][] = [
    ["something that is no HTTP", { answer: "SSH-2.0-OpenSSH_9.2\r\n" }],
    ["a page of HTML", http("200 OK", "text/html", "<h1>It works!</h1>")],
    ["JSON of another shape", http("200 OK", "application/json", '{"run_id":7}')],
    ["JSON that breaks off", http("200 OK", "application/json", '{"run_id":"run_a1b2')],
    ["bytes that are not text", http("200 OK", "application/json", "\u0000\u0001")],
    ["an error of another make", http("500 Oops", "text/plain", "boom")],
    [
      "a problem with a code that is none",
      http("409 Conflict", "application/json", '{"code":"constructor","detail":"x"}'),
    ],
    [
      "a redirect",
      { answer: "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n" },
    ],
  ];

  test("answers 502 with Retry-After and shows nothing of the invalid answer", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const run = await hub.runScript("sleep 60");
    const asks = [
      () => hub.get(`${RUNS}/${run.run_id}`),
      () => hub.get(`${RUNS}/${run.run_id}/logs`),
      () => hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" }),
    ];
    for (const [what, fault] of nonsense) {
      for (const ask of asks) {
        line.requests.length = 0;
        line.harm(fault, fault);
        const { status, headers, json, bytes } = await ask();
        expect([what, status, json.code]).toEqual([what, 502, "agent_error"]);
        expect(headers.get("retry-after")).toMatch(/^\d+$/);
        expect(new TextDecoder().decode(bytes)).not.toMatch(/OpenSSH|It works|boom|run_a1b2|constructor/);
        // What the other attempt left over.
        while (line.requests.length < 2) await hub.get(`${RUNS}/${run.run_id}`);
      }
    }
  });

  test("answers 503 when a gateway reports that the agent is unreachable", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    for (const status of ["502 Bad Gateway", "503 Service Unavailable", "530 Origin DNS Error"]) {
      const fault = http(status, "text/html", "<h1>error code: 1033</h1>");
      line.harm(fault, fault);
      const answer = await hub.get(RUNS);
      expect([status, answer.status, answer.json.code]).toEqual([status, 503, "agent_unavailable"]);
    }
  });
});

describe("a broken connection to the agent", () => {
  test("once, at any point, is retried for a read", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const run = await hub.runScript("echo hello; sleep 60");
    await until(async () => (await hub.log(run)) === "hello\n" || undefined);
    for (const fault of ["cut", ...[0, 1, 20, 150, 400].map((n) => ({ cutAnswerAfter: n }))] as Fault[]) {
      line.harm(fault);
      expect([fault, (await hub.get(`${RUNS}/${run.run_id}`)).status]).toEqual([fault, 200]);
    }
    line.harm({ cutAnswerAfter: 300 });
    expect(await hub.log(run)).toBe("hello\n");
  });

  test("twice answers 502 if the body was cut, and 503 if the request never arrived", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const run = await hub.runScript("sleep 60");
    line.harm({ cutAnswerAfter: 400 }, { cutAnswerAfter: 400 });
    expect(await hub.get(`${RUNS}/${run.run_id}`)).toMatchObject({
      status: 502,
      json: { code: "agent_error" },
    });
    line.harm("cut", "cut");
    expect(await hub.get(`${RUNS}/${run.run_id}`)).toMatchObject({
      status: 503,
      json: { code: "agent_unavailable" },
    });
  });

  test("during a launch without an Idempotency-Key starts one run and answers 201 as for a new one", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const counted = await countedScript(hub);
    const faults: Fault[] = ["cut", ...[0, 10, 200, 500].map((n) => ({ cutAnswerAfter: n }))];
    for (const [i, fault] of faults.entries()) {
      line.harm(fault);
      const { status, headers, json } = await hub.post(RUNS, { path: counted.path });
      expect([fault, status]).toEqual([fault, 201]);
      expect(headers.get("idempotent-replayed")).toBeNull();
      await until(() => counted.count() > i || undefined);
      expect([fault, counted.count()]).toEqual([fault, i + 1]);
      const { json: list } = await hub.get(RUNS);
      expect(list.runs).toHaveLength(i + 1);
      expect(list.runs[0].run_id).toBe(json.run_id);
    }
  });

  test("during a kill kills the run once and answers with that kill", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const marks = join(hub.dir, "terms");
    writeFileSync(marks, "");
    const run = await hub.runScript(
      `trap 'echo term >> ${marks}' TERM; echo ready; while :; do sleep 0.05; done`,
    );
    await until(async () => (await hub.log(run)) === "ready\n" || undefined);
    line.harm({ cutAnswerAfter: 200 });

    const killed = await hub.kill(run);

    expect([killed.status, killed.json.status]).toEqual([200, "killed"]);
    await until(() => readFileSync(marks, "utf8") !== "" || undefined);
    expect((await hub.kill(run)).status).toBe(200);
    expect(readFileSync(marks, "utf8")).toBe("term\n");
  });
});

describe("an agent that is restarted", () => {
  test("during a long poll leaves the run alone, and the poll ends with bytes or a 5xx", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const go = join(hub.dir, "go");
    const run = await hub.runScript(`until [ -e ${go} ]; do sleep 0.05; done; echo done`);
    line.requests.length = 0;
    const poll = hub.get(`${RUNS}/${run.run_id}/logs?wait=25`);
    await until(() => line.requests.length > 0 || undefined);

    await world.restartAgent("SIGKILL");
    const { status, headers } = await poll;
    writeFileSync(go, "");

    expect([502, 503]).toContain(status);
    expect(headers.get("retry-after")).toMatch(/^\d+$/);
    expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0 });
    expect(await hub.log(run)).toBe("done\n");
  });

  test("within a second of a request delays the next launch to the next second and starts one run", async () => {
    await using world = await startFaultyHub();
    const { hub } = world;
    const counted = await countedScript(hub);
    await hub.get(RUNS);
    await world.restartAgent("SIGTERM");

    const { status } = await hub.post(RUNS, { path: counted.path });

    expect(status).toBe(201);
    await until(() => counted.count() === 1 || undefined);
    expect((await hub.get(RUNS)).json.runs).toHaveLength(1);
  });

  test("and refuses a signature once is asked again; after two refusals the answer is 502", async () => {
    await using world = await startFaultyHub();
    const { hub, line } = world;
    const refused = http(
      "401 Unauthorized",
      "application/json",
      '{"code":"unauthenticated","detail":"Refused"}',
    );
    line.harm(refused);
    expect((await hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" })).status).toBe(201);
    expect((await hub.get("/api/v1/pipelines/runs")).json.runs).toHaveLength(1);
    line.harm(refused, refused);
    expect((await hub.get(RUNS)).status).toBe(502);
  });

  test("prints how many runs go on, and has them when it is back", async () => {
    await using world = await startFaultyHub();
    const { hub } = world;
    const run = await hub.runScript("sleep 60");
    const old = world.agent();
    await world.restartAgent("SIGTERM");

    expect(old.output()).toContain("Stopped by SIGTERM; 1 run left running.");
    expect(await hub.run(run)).toMatchObject({ status: "running", pid: run.pid });
  });
});

describe("an agent that is slow", () => {
  test("answers 504 with Retry-After and is not asked again", async () => {
    const dir = tempDir();
    const path = join(dir, "line.sock");
    let connections = 0;
    const silent = createServer(() => connections++).listen(path);
    onTestFinished(() => void silent.close());
    const client = agentClient(
      httpTransport({ url: "http://host-agent", fetch: unixFetch(path), timeoutMs: 100 }),
    );

    await expect(client.health()).rejects.toMatchObject({
      code: "agent_timeout",
      status: 504,
      extras: { retryAfterSeconds: 2 },
    });
    expect(connections).toBe(1);
  });
});

describe("an agent that redirects", () => {
  test("is not followed: no signed request goes to another server", async () => {
    const visits: (string | undefined)[] = [];
    const server = createHttpServer((incoming, outgoing) => {
      visits.push(incoming.url);
      outgoing.writeHead(307, { location: "/elsewhere" }).end();
    });
    const port = await listen(server, { host: "127.0.0.1", port: 0 });
    onTestFinished(() => close(server, 0));
    const client = agentClient(
      httpTransport({ url: `http://127.0.0.1:${port}`, fetch: (request) => fetch(request) }),
    );

    await expect(client.health()).rejects.toMatchObject({ code: "agent_error" });
    expect(visits).toEqual(["/agent/v1/health"]);
  });
});

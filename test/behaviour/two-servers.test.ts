import { readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { auditOf, entries } from "../support/audit-log.ts";
import { ALL, type Hub, startHub, until } from "../support/hub.ts";
import { serverProcess, startServerProcess } from "../support/server-process.ts";

const SCRIPTS = "/api/v1/scripts/runs";

/** Two servers of their own processes on one state folder: a deployment that is being replaced, or a mistake. */
async function startTwo(env: Record<string, string> = {}) {
  const hub = await startHub({ deploy: serverProcess({ stopSignal: "SIGTERM" }), env });
  const second = await startServerProcess(hub.env);
  return {
    hub,
    urls: [hub.url, second.url] as const,
    async [Symbol.asyncDispose]() {
      await second[Symbol.asyncDispose]();
      await hub[Symbol.asyncDispose]();
    },
  };
}

async function post(url: string, body?: object, key?: string) {
  const response = await fetch(url, {
    method: "POST",
    headers: {
      authorization: `Bearer ${ALL.key}`,
      ...(body && { "content-type": "application/json" }),
      ...(key !== undefined && { "idempotency-key": key }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  return { status: response.status, json: (await response.json()) as { run_id: string; status: string } };
}

/** The lines that the scripts have left, once as often as they ran. */
function linesOf(hub: Hub, name: string): string[] {
  return readFileSync(join(hub.dir, name), "utf8").trimEnd().split("\n");
}

test("two servers on one state folder that launch one script at the same time start each run, with a separate log and a line in one audit chain", async () => {
  await using two = await startTwo();
  const { hub, urls } = two;
  const path = await hub.script("a.sh", "true");
  const answers = await Promise.all(
    Array.from({ length: 24 }, (_, i) => post(urls[i % 2]! + SCRIPTS, { path })),
  );
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 201));
  const ids = answers.map(({ json }) => json.run_id);
  const ended = await Promise.all(ids.map((run_id) => hub.ended({ source: "script", run_id })));
  expect(new Set(ended.map(({ log_path }) => log_path)).size).toBe(ids.length);

  const launched = entries(hub).filter(({ event }) => event === "launch");
  expect(launched.map(({ run_id }) => String(run_id)).toSorted()).toEqual(ids.toSorted());
  expect(await auditOf(hub, "verify")).toMatchObject({ code: 0 });
});

test("one Idempotency-Key at two servers on one state folder at the same time starts one run", async () => {
  await using two = await startTwo();
  const { hub, urls } = two;
  const path = await hub.script("job.sh", `echo "$HUB_RUN_ID" >>${hub.dir}/ledger`);
  const ids: string[] = [];
  for (let i = 0; i < 10; i++) {
    const answers = await Promise.all(
      [...urls, ...urls].map((url) => post(url + SCRIPTS, { path }, `key ${i}`)),
    );
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    const [{ json }] = answers as [(typeof answers)[number]];
    expect(new Set(answers.map((answer) => answer.json.run_id))).toEqual(new Set([json.run_id]));
    ids.push(json.run_id);
  }
  for (const run_id of ids) await hub.ended({ source: "script", run_id });
  expect(linesOf(hub, "ledger").toSorted()).toEqual(ids.toSorted());
});

test("two servers on one state folder together start no more concurrent runs than HUB_MAX_RUNNING", async () => {
  await using two = await startTwo({ HUB_MAX_RUNNING: "5" });
  const { hub, urls } = two;
  const path = await hub.script("job.sh", `until [ -e ${hub.dir}/go ]; do sleep 0.02; done`);
  const answers = await Promise.all(
    Array.from({ length: 16 }, (_, i) => post(urls[i % 2]! + SCRIPTS, { path })),
  );
  const started = answers.filter(({ status }) => status === 201);
  expect(started).toHaveLength(5);
  expect(answers.filter(({ status }) => status === 429)).toHaveLength(11);
  await hub.script("../go", "");
  await Promise.all(started.map(({ json }) => hub.ended({ source: "script", run_id: json.run_id })));
});

test("two kills at two servers on one state folder at the same time send one signal", async () => {
  await using two = await startTwo();
  const { hub, urls } = two;
  const tell = (signal: string) => `trap 'echo "$HUB_RUN_ID" >>${hub.dir}/signals' ${signal}`;
  const counting = `${tell("TERM")}; ${tell("INT")}; echo ready; until [ -e ${hub.dir}/go ]; do sleep 0.02; done`;
  const runs = await Promise.all(Array.from({ length: 6 }, () => hub.runScript(counting)));
  for (const run of runs) await until(async () => (await hub.log(run)).includes("ready") || undefined);

  const answers = await Promise.all(
    runs.flatMap(({ run_id }) =>
      urls.flatMap((url) =>
        ["SIGTERM", "SIGINT"].map((signal) => post(`${url}${SCRIPTS}/${run_id}/kill`, { signal })),
      ),
    ),
  );
  for (const { status, json } of answers) {
    expect(status).toBe(200);
    expect(json.status).toBe("killed");
  }
  await hub.script("../go", "");
  for (const run of runs) expect((await hub.ended(run)).status).toBe("killed");
  expect(linesOf(hub, "signals").toSorted()).toEqual(runs.map(({ run_id }) => run_id).toSorted());
});

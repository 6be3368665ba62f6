import createClient from "openapi-fetch";

import type { paths } from "./generated/hub.d.ts";

const [baseUrl = "", key = ""] = process.argv.slice(2);
const hub = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${key}` } });

/** Gives no field that may be left out: the types must allow that. Launches a recipe that never ends, reads its first line, finds it in the list and stops it. */
async function main(): Promise<void> {
  const launched = await hub.POST("/api/v1/pipelines/runs", {
    params: { header: { "Idempotency-Key": "generated-client-1" } },
    body: { recipe_id: "endless" },
  });
  if (launched.error) throw new Error(launched.error.detail);
  const { run_id, spec } = launched.data;
  const args: string = spec.args;

  let text = "";
  for (let after = 0; !text.includes("\n");) {
    const { data, error } = await hub.GET("/api/v1/pipelines/runs/{run_id}/logs", {
      params: { path: { run_id }, query: { after, wait: 5 } },
    });
    if (error) throw new Error(error.detail);
    if (typeof data === "string") throw new Error("JSON was asked for");
    text += data.chunk;
    after = data.offset;
  }

  const listed = await hub.GET("/api/v1/pipelines/runs", {
    params: { query: { status: "running", limit: 10 } },
  });
  const found: string[] = (listed.data?.runs ?? []).map((run) => run.run_id);
  const killed = await hub.POST("/api/v1/pipelines/runs/{run_id}/kill", {
    params: { path: { run_id } },
    body: { grace_seconds: 0 },
  });
  const missing = await hub.GET("/api/v1/scripts/runs/{run_id}", { params: { path: { run_id } } });

  console.log(
    JSON.stringify({
      run_id,
      args,
      text,
      found,
      killed: killed.data?.status,
      error: missing.error && { code: missing.error.code, status: missing.response.status },
    }),
  );
}

await main();

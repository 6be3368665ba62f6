import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { describe, expect, onTestFinished, test } from "vitest";

import { freePort } from "../bench/server.ts";
import { clientsBlock } from "../support/clients-page.ts";
import { ALL, type Hub, startHub, until } from "../support/hub.ts";
import { type AnyJson, servedDocument } from "../support/openapi-check.ts";
import { needsTool, pageVariables, shell, startExampleHub, startTool, successesOf } from "./tools.ts";

const RUNS = "/api/v1/pipelines/runs";

describe("Prism, as a proxy that validates", () => {
  test(
    "finds no violation in a true request of every operation and in its answer",
    needsTool("prism"),
    async () => {
      await using hub = await startExampleHub();
      const script = await hub.script("job.sh", "echo begun; exec sleep 300");
      const ask = asker(await startPrism(hub, pageVariables(hub)));
      const called: string[] = [];
      async function succeed(operation: string, { id = "", query = "", body }: Call = {}): Promise<AnyJson> {
        const [method, path] = operation.split(" ") as [string, string];
        const { status, json } = await ask(method, path.replace("{run_id}", id) + query, { body });
        expect(violationIn(json), operation).toBeUndefined();
        called.push(`${operation} ${status}`);
        return json;
      }

      for (const [surface, order] of [
        ["pipelines", { recipe_id: "build_all_extra_features", args: "--limit 5000" }],
        ["scripts", { path: script, args: "--mode full", label: "prism" }],
      ] as const) {
        const runs = `/api/v1/${surface}/runs`;
        const run = `${runs}/{run_id}`;
        await succeed(`POST /api/v1/${surface}/previews`, { body: order });
        const { run_id: id } = await succeed(`POST ${runs}`, { body: order });
        await succeed(`GET ${runs}`, { query: "?limit=5&status=running" });
        await succeed(`GET ${run}`, { id });
        const page = await succeed(`GET ${run}/logs`, { id, query: "?after=0&max_bytes=100&wait=20" });
        expect(page.chunk).toBe("begun\n");
        const text = await ask("GET", `${runs}/${id}/logs`, { accept: "text/plain" });
        expect(text).toMatchObject({ status: 200, type: "text/plain; charset=utf-8", text: "begun\n" });
        await succeed(`POST ${run}/kill`, { id, body: { signal: "SIGKILL" } });
      }
      await succeed("GET /api/v1/pipelines/recipes");
      await succeed("GET /api/v1/scripts");
      await succeed("GET /api/v1/scripts/content", { query: `?path=${encodeURIComponent(script)}` });
      await succeed("GET /healthz");

      expect(called.toSorted()).toEqual(successesOf(await servedDocument(hub.url)).toSorted());

      // The problems are in the document too.
      for (const [path, code] of [
        [`${RUNS}/run_000000000000`, "run_not_found"],
        ["/api/v1/scripts/content?path=/etc/none.sh", "path_forbidden"],
      ] as const) {
        const { json } = await ask("GET", path);
        expect({ violation: violationIn(json), code: json.code }).toEqual({ violation: undefined, code });
      }
    },
  );

  test(
    "reports a record without its run_id, and a request that the Hub would refuse",
    needsTool("prism"),
    async () => {
      await using hub = await startHub();
      const wrong = createServer((_, response) => {
        response.setHeader("content-type", "application/json").end('{"status":"running"}');
      }).listen(0, "127.0.0.1");
      await once(wrong, "listening");
      onTestFinished(() => {
        wrong.closeAllConnections();
        wrong.close();
      });
      const { port } = wrong.address() as AddressInfo;
      // The true document, and another server behind the proxy.
      const block = clientsBlock("prism.sh").replace('" "$HUB_URL"', '" "$WRONG_URL"');
      const variables = { ...pageVariables(hub), WRONG_URL: `http://127.0.0.1:${port}` };
      const ask = asker(await startPrism(hub, variables, block));

      const answer = await ask("GET", `${RUNS}/run_a1b2c3d4e5f6`);
      const request = await ask("POST", RUNS, { body: { args: "--limit 5000" } });

      expect({ status: answer.status, violation: violationIn(answer.json) }).toEqual({
        status: 500,
        violation: "VIOLATIONS",
      });
      expect(JSON.stringify(answer.json)).toContain("must have required property 'run_id'");
      expect({ status: request.status, violation: violationIn(request.json) }).toEqual({
        status: 422,
        violation: "UNPROCESSABLE_ENTITY",
      });
      expect(JSON.stringify(request.json)).toContain("must have required property 'recipe_id'");
    },
  );
});

interface Call {
  id?: string;
  query?: string;
  body?: unknown;
}

/** Starts the proxy as docs/clients.md does, on a free port. Returns its address. */
async function startPrism(
  hub: Hub,
  variables: Record<string, string>,
  block = clientsBlock("prism.sh"),
): Promise<string> {
  const port = String(await freePort());
  const proxy = startTool(hub.dir, shell(block.replace("4010", port)), variables);
  await until(() => {
    if (proxy.child.exitCode !== null) throw new Error(proxy.output());
    return proxy.output().includes("is listening") || undefined;
  }, 120_000);
  return `http://127.0.0.1:${port}`;
}

function asker(url: string) {
  return async (
    method: string,
    path: string,
    { body, accept = "*/*" }: { body?: unknown; accept?: string } = {},
  ) => {
    const response = await fetch(url + path, {
      method,
      headers: {
        authorization: `Bearer ${ALL.key}`,
        accept,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    const json: AnyJson = type.includes("json") ? JSON.parse(text) : undefined;
    return { status: response.status, type, text, json };
  };
}

/** The name of the violation, when the answer is Prism's own. */
function violationIn(json: AnyJson): string | undefined {
  return /^https:\/\/stoplight\.io\/prism\/errors#(?<name>.+)/.exec(json?.type)?.groups?.["name"];
}

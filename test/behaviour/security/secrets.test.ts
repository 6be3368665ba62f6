import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { startHub } from "../../support/hub.ts";
import { remoteEnv, startAgentProcess } from "../../support/deployments.ts";
import { startServerProcess } from "../../support/server-process.ts";

const RUNS = "/api/v1/scripts/runs";

describe("secrets", () => {
  test("are in no answer, log, file or environment, whatever the request and its failure", async () => {
    const canary = {
      key: "sk_canary_plain_0123456789",
      wrong: "sk_canary_wrong_0123456789",
      env: "canary-of-the-environment",
      idem: "canary-idempotency-key",
      signing: Buffer.from("canary-of-the-signature").toString("base64"),
      // What a receiver may take as proof of who calls; no one answers there.
      callback: "canary-of-the-callback-url",
    };
    await using hub = await startHub({ keys: [{ name: "canary", key: canary.key, scopes: ["*"] }] });
    const agent = await startAgentProcess({
      dir: hub.dir,
      env: {
        ...hub.env,
        HUB_STATE_DIR: join(hub.dir, "state2"),
        HUB_CALLBACK_HOSTS: "http://127.0.0.1:9+private",
        HUB_CALLBACK_SECRET: `whsec_${canary.signing}`,
      },
    });
    const { d: agentKey } = agent.key;
    try {
      await using server = await startServerProcess({
        ...remoteEnv({ dir: hub.dir, env: hub.env }, agent.url),
        HUB_AGENT_KEY: JSON.stringify(agent.key),
        AWS_SECRET_ACCESS_KEY: canary.env,
      });
      const path = await hub.script(
        "environment.sh",
        `tr '\\0' '\\n' </proc/$$/environ; tr '\\0' '\\n' </proc/$PPID/environ; until [ -e "${hub.dir}/go" ]; do sleep 0.02; done`,
      );
      const callback_url = `http://127.0.0.1:9/hook?token=${canary.callback}`;
      let answers = "";
      const ask = async (method: string, route: string, key: string, body?: string) => {
        const response = await fetch(server.url + route, {
          method,
          headers: {
            authorization: `Bearer ${key}`,
            "content-type": "application/json",
            "idempotency-key": canary.idem,
          },
          ...(body !== undefined && { body }),
        });
        const text = await response.text();
        answers += JSON.stringify([...response.headers]) + text;
        return text;
      };
      const run = JSON.parse(await ask("POST", RUNS, canary.key, JSON.stringify({ path, callback_url })));
      const environ = processesOf(run.run_id).flatMap(({ pid }) => {
        try {
          return [readFileSync(`/proc/${pid}/environ`, "latin1")];
        } catch {
          return []; // It has ended since.
        }
      });
      writeFileSync(join(hub.dir, "go"), "");
      for (const key of [canary.key, canary.wrong]) {
        for (const route of [
          "/healthz",
          RUNS,
          `${RUNS}/${run.run_id}/logs?wait=2`,
          "/api/v1/none",
          "/api/v1/scripts/content?path=/x",
          `${RUNS}?limit=x`,
        ]) {
          await ask("GET", route, key);
        }
        for (const body of [
          "{",
          JSON.stringify({ path: `${hub.root}/none.sh` }),
          JSON.stringify({ path, args: "'" }),
          JSON.stringify({ path, args: "other" }),
        ]) {
          await ask("POST", RUNS, key, body);
        }
        await ask("POST", `${RUNS}/${run.run_id}/kill`, key);
      }
      await agent.stop();
      await ask("GET", RUNS, canary.key);

      const places: Record<string, string> = {
        answers,
        environments: environ.join("\n"),
        "output of the server": server.output.stdout + server.output.stderr,
        "output of the agent": agent.output(),
        ...filesUnder([hub.stateDir, join(hub.dir, "state2")]),
      };
      expect(environ.length, "the job was looked at while it lived").toBeGreaterThan(0);
      for (const [place, text] of Object.entries(places)) {
        for (const secret of [canary.key, canary.wrong, canary.env, canary.idem, canary.signing, agentKey]) {
          expect(text.includes(secret), `${secret} in ${place}`).toBe(false);
        }
        // Only where the agent keeps it until it has called.
        const isKeptHere = /\/runs\.db(?:-wal)?$/.test(place);
        expect(!isKeptHere && text.includes(canary.callback), `the callback's URL in ${place}`).toBe(false);
      }
      expect(Object.keys(places).length).toBeGreaterThan(8);
    } finally {
      await agent.stop();
    }
  });

  test("a presented key is looked up by its digest and never compared as text", () => {
    for (const folder of ["handlers", "adapters", "host-agent"]) {
      for (const [file, text] of Object.entries(sources(folder))) {
        // Clients: they compare on the side of the owner of the key.
        if (/\/(?:cli|console|api-docs|dist)\//.test(file)) continue;
        const compared =
          text.match(/\b(?:presented\w*|\w+\.key|secret)(?:\([^)]*\))?\s*[!=]={1,2}(?![=\s]*undefined).*/g) ??
          [];
        expect(compared, file).toEqual([]);
      }
    }
    expect(sources("handlers")["handlers/auth.ts"]).toContain(
      "ring.keys.get(await digest(presentedKey(request)))",
    );
  });
});

/** The bytes of every file under the folders, by path. */
function filesUnder(folders: string[]): Record<string, string> {
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()),
  );
  return Object.fromEntries(
    files.map((entry) => [
      join(entry.parentPath, entry.name),
      readFileSync(join(entry.parentPath, entry.name), "latin1"),
    ]),
  );
}

/** The text of every source file of a folder, by its path from the project. */
function sources(folder: string): Record<string, string> {
  const all = filesUnder([new URL(`../../../${folder}`, import.meta.url).pathname]);
  const base = new URL("../../../", import.meta.url).pathname;
  return Object.fromEntries(
    Object.entries(all)
      .filter(([path]) => path.endsWith(".ts"))
      .map(([path, text]) => [path.slice(base.length), text]),
  );
}

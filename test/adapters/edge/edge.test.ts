import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import { freePort } from "../../bench/server.ts";
import { COMPILE_CACHE } from "../../support/compile-cache.ts";
import { until } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";

const EDGE_TS = fileURLToPath(new URL("../../../adapters/edge/edge.ts", import.meta.url));

test("the edge has its first key before it listens: no early client makes it refuse the key for a while", async () => {
  const dir = tempDir();
  const port = await freePort();
  const child = spawn(process.execPath, [EDGE_TS], {
    env: {
      ...COMPILE_CACHE,
      PATH: process.env["PATH"],
      HOME: dir,
      HUB_PORT: String(port),
      HUB_STATE_DIR: join(dir, "state"),
      HUB_SCRIPT_ROOTS: "",
    },
    stdio: ["ignore", "pipe", "ignore"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (chunk) => (output += String(chunk)));
  const url = `http://127.0.0.1:${port}`;

  // From before it listens on.
  const first = await until(() => health(url), 25_000);
  const key = await until(() => /Bearer (sk_edge_\w+)/.exec(output)?.[1]);
  const list = await fetch(`${url}/api/v1/pipelines/recipes`, {
    headers: { authorization: `Bearer ${key}` },
  });
  await list.arrayBuffer();

  expect(first).toMatchObject({ mode: "enforced" });
  expect(list.status).toBe(200);
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
});

async function health(url: string): Promise<unknown> {
  return fetch(`${url}/healthz`, { headers: { connection: "close" } }).then(
    (response) => response.json(),
    () => undefined,
  );
}

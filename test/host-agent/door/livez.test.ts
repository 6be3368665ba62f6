import { join } from "node:path";

import { expect, test } from "vitest";

import { unixFetch } from "../../../adapters/node/unix-fetch.ts";
import { startAgentHere } from "../../support/deployments.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** An agent that listens here, and a request to it without a signature. */
async function unsigned(listen: string, dir = tempDir()) {
  const env = { PATH: "/usr/bin:/bin", HUB_STATE_DIR: join(dir, "state"), HUB_SCRIPT_ROOTS: dir };
  const agent = await startAgentHere({ dir, env }, listen);
  const path = agent.url.startsWith("unix:") ? agent.url.slice("unix:".length) : undefined;
  const send = path === undefined ? fetch : unixFetch(path);
  return {
    stop: agent.stop,
    async ask(target: string, method = "GET") {
      const origin = path === undefined ? agent.url.replace("0.0.0.0", "127.0.0.1") : "http://localhost";
      const response = await send(new Request(origin + target, { method, headers: { connection: "close" } }));
      return { status: response.status, text: await response.text() };
    },
  };
}

test.for([["a Unix socket"], ["a port of loopback"]] as const)(
  "an agent on %s answers a service manager that it is alive, without a signature, and nothing else",
  async ([where]) => {
    const dir = tempDir();
    const listen = where === "a Unix socket" ? `unix:${join(dir, "agent.sock")}` : "127.0.0.1:0";
    const { ask, stop } = await unsigned(listen, dir);
    expect(await ask("/livez")).toEqual({ status: 200, text: "ok\n" });
    expect(await ask("/livez?verbose=1")).toEqual({ status: 200, text: "ok\n" });
    for (const target of ["/livez/", "/agent/v1/health", "/agent/v1/livez", "//livez"]) {
      expect(await ask(target), target).toMatchObject({ status: 401 });
    }
    expect(await ask("/livez", "POST")).toMatchObject({ status: 401 });
    await stop();
  },
);

test("an agent that other hosts can reach answers nobody without a signature, not even that it is alive", async () => {
  const { ask, stop } = await unsigned("0.0.0.0:0");
  expect(await ask("/livez")).toMatchObject({ status: 401 });
  await stop();
});

import { afterEach, expect, test, vi } from "vitest";

import { agentClient } from "../../handlers/agent-client.ts";
import { httpTransport } from "../../handlers/agent-transport.ts";
import { createApp, routes } from "../../handlers/app.ts";
import { memoryKV } from "../../adapters/node/kv-memory.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { rawRequest } from "../support/raw-socket.ts";
import { ALL, startHub } from "../support/hub.ts";
import { startServerProcess } from "../support/server-process.ts";

const RUN = "run_a1b2c3d4e5f6";
const noKeys = () => ({ mode: "dev" as const });

afterEach(() => void vi.useRealTimers());

test("a body that arrives slowly is refused after ten seconds on every route with a body, and the host receives no request", async () => {
  vi.useFakeTimers();
  const agent = agentClient(
    httpTransport({ url: "http://agent", fetch: () => expect.unreachable("the host was asked") }),
  );
  const app = createApp({
    agent,
    kv: memoryKV(),
    keys: noKeys,
    digest: sha256,
    log: () => {},
    now: Date.now,
  });
  const paths = routes.filter(({ request }) => request.body).map(({ path }) => path.replace(":run_id", RUN));
  expect(paths).toHaveLength(6);
  const answers = paths.map((path) =>
    app.fetch(
      new Request(`http://localhost${path}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: trickle(),
        duplex: "half",
      }),
    ),
  );

  await vi.advanceTimersByTimeAsync(10_000);

  for (const response of await Promise.all(answers)) {
    expect(response.headers.get("connection")).toBe("close");
    expect(await response.json()).toMatchObject({
      status: 408,
      code: "request_timeout",
      detail: expect.stringContaining("body"),
    });
  }
});

/** A blank a second. */
function trickle(): ReadableStream {
  return new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      controller.enqueue(new TextEncoder().encode(" "));
    },
  });
}

const MEGABYTE = Buffer.alloc(1_000_000, "x");
const HEAD = `POST /api/v1/pipelines/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${ALL.key}\r\nContent-Type: application/json\r\n`;

function* tenMegabytes() {
  yield Buffer.from(`${HEAD}Content-Length: 10000000\r\n\r\n`);
  for (let i = 0; i < 10; i++) yield MEGABYTE;
}

function* tenMegabytesInChunks() {
  yield Buffer.from(`${HEAD}Transfer-Encoding: chunked\r\n\r\n`);
  for (let i = 0; i < 10; i++) {
    yield Buffer.concat([Buffer.from(`${MEGABYTE.length.toString(16)}\r\n`), MEGABYTE, Buffer.from("\r\n")]);
  }
  yield Buffer.from("0\r\n\r\n");
}

test("bodies of 10 MB are refused, with and without a Content-Length, and memory does not grow", async () => {
  await using hub = await startHub();
  await using server = await startServerProcess({ ...hub.env, HUB_STATE_DIR: `${hub.dir}/other-state` });
  async function sendTwenty(): Promise<void> {
    for (let i = 0; i < 10; i++) {
      const answers = await Promise.all(
        [tenMegabytes, tenMegabytesInChunks].map((body) => rawRequest(server.url, body())),
      );
      for (const { status, body } of answers) {
        expect(status).toBe(413);
        expect(JSON.parse(body)).toMatchObject({
          code: "body_too_large",
          detail: expect.stringContaining("65536"),
        });
      }
    }
  }
  // Until the heap and the buffers of the sockets have their size.
  for (let round = 0; round < 3; round++) await sendTwenty();
  const before = server.memoryBytes();
  for (let round = 0; round < 4; round++) await sendTwenty();

  const grownBytes = server.memoryBytes() - before;

  expect(grownBytes, "80 bodies of 10 MB").toBeLessThan(40_000_000);
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
});

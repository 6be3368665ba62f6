import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { agentClient } from "../../../handlers/agent-client.ts";
import { httpTransport } from "../../../handlers/agent-transport.ts";
import { requestSigner } from "../../../host-agent/protocol/signature.ts";
import { startAgentProcess } from "../../support/deployments.ts";
import { until } from "../../support/hub.ts";

const MEBIBYTE = 1_048_576;
const SIGNED_REQUESTS = 20;

/** An agent in a separate process on a TCP port, a signed client, and many strangers. */
async function startBesieged() {
  const dir = mkdtempSync(join(tmpdir(), "siege-"));
  const env = {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HUB_STATE_DIR: join(dir, "state"),
    HUB_SCRIPT_ROOTS: dir,
  };
  const agent = await startAgentProcess({ dir, env }, "127.0.0.1:0");
  const client = agentClient(
    httpTransport({
      url: agent.url,
      sign: await requestSigner(agent.key, "host-agent"),
      fetch: (request) => fetch(request),
    }),
  );
  const { port } = new URL(agent.url);
  const sockets: Socket[] = [];
  return {
    agent,
    /** Connects, writes the text, and leaves the connection open. */
    stranger(text: string): Promise<Socket> {
      return new Promise((resolve) => {
        const socket = connect(Number(port), "127.0.0.1", () => {
          socket.write(text);
          resolve(socket);
        });
        socket.on("error", () => socket.destroy());
        // So that its end is noticed.
        socket.resume();
        sockets.push(socket);
      });
    },
    /** Fails as soon as one signed request is not served. */
    async serveSigned(): Promise<void> {
      for (let i = 0; i < SIGNED_REQUESTS; i++) await client.health();
    },
    memoryBytes(): number {
      const status = readFileSync(`/proc/${agent.child.pid}/status`, "utf8");
      return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      for (const socket of sockets) socket.destroy();
      await agent.stop();
      rmSync(dir, { recursive: true });
    },
  };
}

const HEAD = "POST /agent/v1/runs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

describe("the agent's door under attack", () => {
  test("serves signed requests while a thousand connections never finish their headers", async () => {
    await using siege = await startBesieged();
    await siege.serveSigned();
    const before = siege.memoryBytes();
    const half = ["", "GET", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "];
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => siege.stranger(half[i % 3]!)));

    await siege.serveSigned();

    expect(siege.memoryBytes() - before).toBeLessThan(100 * MEBIBYTE);
  });

  test("serves signed requests while strangers send headers and bodies byte by byte, and closes those connections", async () => {
    await using siege = await startBesieged();
    const slow = await Promise.all([
      ...Array.from({ length: 100 }, () => siege.stranger("GET / HTTP/1.1\r\nhost: x\r\n")),
      ...Array.from({ length: 100 }, () => siege.stranger(`${HEAD}content-length: 100000\r\n\r\n`)),
      ...Array.from({ length: 100 }, () => siege.stranger("")),
    ]);
    const drip = setInterval(() => {
      for (const socket of slow.slice(0, -100)) if (socket.writable) socket.write("x");
    }, 50);
    try {
      await siege.serveSigned();
      const isGivenUp = () => slow.every((socket) => socket.closed || socket.readableEnded);
      expect(await until(() => isGivenUp() || undefined, 20_000)).toBe(true);
    } finally {
      clearInterval(drip);
    }
  });

  test("reads none of many unsigned bodies of ten megabytes", async () => {
    await using siege = await startBesieged();
    await siege.serveSigned();
    const before = siege.memoryBytes();
    const chunk = Buffer.alloc(MEBIBYTE, "x");
    const bodies = Array.from({ length: 30 }, async (_, i) => {
      const framing = i % 2 === 0 ? "content-length: 10485760\r\n\r\n" : "transfer-encoding: chunked\r\n\r\n";
      const socket = await siege.stranger(HEAD + framing);
      let answer = "";
      socket.on("data", (data) => (answer += String(data)));
      const frame = i % 2 === 0 ? [chunk] : ["100000\r\n", chunk, "\r\n"];
      for (let sent = 0; sent < 10 && socket.writable; sent++) {
        for (const part of frame) await new Promise((resolve) => socket.write(part, resolve));
      }
      await until(() => socket.closed || socket.readableEnded || undefined);
      return answer;
    });

    await siege.serveSigned();
    const answers = await Promise.all(bodies);

    // A connection that is closed while bytes are under way may take the answer with it.
    for (const answer of answers) expect(answer).toMatch(/^(?:HTTP\/1\.1 401 Unauthorized\r\n|$)/);
    expect(siege.memoryBytes() - before).toBeLessThan(100 * MEBIBYTE);
    await siege.serveSigned();
  });
});

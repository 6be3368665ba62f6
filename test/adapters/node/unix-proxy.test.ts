import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { readNodeConfig } from "../../../adapters/node/config.ts";
import { serveNode } from "../../../adapters/node/serve.ts";
import {
  boundedServer,
  close,
  isFromUnixSocket,
  listen,
  listenAlso,
} from "../../../host-agent/system/http-listener.ts";
import { freePort } from "../../bench/server.ts";
import { type Deploy, nodeEmbedded, startHub } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** Sends a request without a key through the socket, as a proxy with these headers does; returns the status. */
async function askThrough(socketPath: string, headers: Record<string, string>): Promise<number> {
  const outgoing = request({
    socketPath,
    path: "/api/v1/scripts",
    headers: { host: "hub.example", ...headers },
  });
  outgoing.end();
  const [incoming] = await once(outgoing, "response");
  incoming.resume();
  await once(incoming, "end");
  return incoming.statusCode;
}

test.for([
  ["unix", { "x-forwarded-for": "203.0.113.7" }, "203.0.113.7"],
  ["127.0.0.1, unix,10.0.0.0/8", { "x-forwarded-for": "8.8.8.8, 203.0.113.7, 10.1.2.3" }, "203.0.113.7"],
  ["unix", { forwarded: 'for="[2001:db8::7]:4711"' }, "2001:db8::7"],
  ["unix", { "x-forwarded-for": "203.0.113.7, nonsense" }, null],
  ["unix", {}, null],
  ["127.0.0.1,::1", { "x-forwarded-for": "203.0.113.7" }, null],
  [undefined, { "x-forwarded-for": "203.0.113.7" }, null],
] as const)(
  "with HUB_TRUSTED_PROXIES=%s a client behind a proxy on the Unix socket, which sends %j, is recorded and counted as %s",
  async ([proxies, headers, address]) => {
    const path = join(tempDir(), "hub.sock");
    const statuses: number[] = [];
    const deploy: Deploy = async ({ dir, env: base }) => {
      const env = {
        ...base,
        HUB_HOST: `unix:${path}`,
        ...(proxies !== undefined && { HUB_TRUSTED_PROXIES: proxies }),
      };
      const serving = await serveNode(readNodeConfig(env), env, () => {});
      for (let count = 0; count < 3; count++) statuses.push(await askThrough(path, headers));
      await serving.stop();
      return nodeEmbedded({ dir, env: base });
    };
    await using hub = await startHub({ deploy, env: { HUB_FAILED_AUTH_PER_MINUTE: "2" } });

    expect(statuses, "a client without an address is not counted").toEqual([
      401,
      401,
      address === null ? 401 : 429,
    ]);
    const lines = readFileSync(join(hub.stateDir, "audit.log"), "utf8").trim().split("\n");
    const refused = lines.map((line) => JSON.parse(line)).filter(({ event }) => event === "refused");
    expect(refused[0].address).toBe(address);
  },
);

test.for(["the Unix socket", "the port"])(
  "a server on both knows which connections came through its Unix socket, whichever it binds first: %s",
  async (first) => {
    const path = join(tempDir(), "hub.sock");
    const seen: boolean[] = [];
    const server = boundedServer({
      headersTimeoutMs: 5_000,
      requestTimeoutMs: 5_000,
      keepAliveTimeoutMs: 1_000,
      maxHeaderBytes: 16_384,
    }).on("request", ({ socket }, outgoing) => {
      seen.push(isFromUnixSocket(socket));
      outgoing.end();
    });
    onTestFinished(() => close(server, 0));
    const tcp = { host: "127.0.0.1", port: await freePort() };
    const [main, also] = first === "the port" ? [tcp, { path }] : [{ path }, tcp];
    await listen(server, main);
    await listenAlso(server, also);

    for (const socket of [connect(path), connect(tcp.port, tcp.host)]) {
      socket.end("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      socket.resume();
      await once(socket, "close");
    }

    expect(seen).toEqual([true, false]);
  },
);

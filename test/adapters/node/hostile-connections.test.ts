import { once } from "node:events";
import { connect } from "node:net";

import { expect, test } from "vitest";

import { startHub, until } from "../../support/hub.ts";
import { startServerProcess } from "../../support/server-process.ts";

const PAGE = /assets\/docs-[\w-]+\.js/;

test("a thousand pipelined requests whose answers are not read use little memory, and the connection is closed", async () => {
  await using hub = await startHub();
  await using server = await startServerProcess({ ...hub.env, HUB_STATE_DIR: `${hub.dir}/other` });
  const { hostname, port } = new URL(server.url);
  const asset = PAGE.exec(await (await fetch(`${server.url}/docs`)).text())![0];
  await (await fetch(`${server.url}/${asset}`)).arrayBuffer();
  const before = server.memoryBytes();

  const socket = connect(Number(port), hostname);
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.pause();
  socket.write(`GET /${asset} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`.repeat(1_000));
  const closed = once(socket, "close");
  let most = 0;
  await until(async () => {
    most = Math.max(most, server.memoryBytes() - before);
    return (await fetch(`${server.url}/healthz`)).ok || undefined;
  });
  socket.resume();
  await closed;

  expect(socket.bytesRead).toBeLessThan(20 * 2_000_000);
  expect(Math.max(most, server.memoryBytes() - before)).toBeLessThan(150_000_000);
});

test("pipelined requests whose answers are read are answered in their order", async () => {
  await using hub = await startHub();
  const { hostname, port } = new URL(hub.url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.on("data", (chunk) => (text += String(chunk)));
  const ids = Array.from({ length: 12 }, (_, i) => `order-${i}`);
  socket.write(
    ids.map((id) => `GET /healthz HTTP/1.1\r\nHost: ${hostname}\r\nX-Request-Id: ${id}\r\n\r\n`).join(""),
  );
  await until(() => text.includes("order-11") || undefined);
  socket.destroy();
  expect([...text.matchAll(/order-\d+/g)].map(([id]) => id)).toEqual(ids);
});

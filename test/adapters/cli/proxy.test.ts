import { createServer, request } from "node:http";

import { expect, test } from "vitest";

import { startHub } from "../../support/hub.ts";
import { cli, listening } from "./cli.ts";

/** A proxy that forwards to this machine, whatever the name, and remembers the names. */
async function proxy() {
  const asked: string[] = [];
  const server = createServer((incoming, outgoing) => {
    const { host, port, pathname } = new URL(incoming.url!);
    asked.push(host);
    const { method, headers } = incoming;
    const forwarded = request({ host: "127.0.0.1", port, path: pathname, method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(outgoing);
    });
    forwarded.on("error", () => outgoing.destroy());
    incoming.pipe(forwarded);
  });
  return { asked, url: await listening(server) };
}

test.for(["HTTP_PROXY", "http_proxy"])("hub sends its requests through the proxy of %s", async (name) => {
  await using hub = await startHub();
  const { asked, url } = await proxy();
  const port = new URL(hub.url).port;

  // The Hub of the tests serves every name, and this one leads nowhere without the proxy.
  const listed = await cli(`http://hub.test:${port}`, ["recipes", "--retry", "0"], { env: { [name]: url } });

  expect(listed).toMatchObject({ code: 0, stdout: expect.stringContaining("hello") });
  expect(new Set(asked)).toEqual(new Set([`hub.test:${port}`]));
});

test("hub sends no key of this machine's Hub to a proxy, nor one of a host in NO_PROXY", async () => {
  await using hub = await startHub();
  const { asked, url } = await proxy();
  const { port } = new URL(hub.url);

  const local = await cli(`http://localhost:${port}`, ["recipes"], { env: { HTTP_PROXY: url } });
  const excepted = await cli(`http://hub.test:${port}`, ["recipes", "--retry", "0"], {
    env: { HTTP_PROXY: url, NO_PROXY: "hub.test" },
  });

  expect(local.code).toBe(0);
  expect(excepted.code).toBe(69);
  expect(asked).toEqual([]);
});

test("hub names the proxy when it cannot be reached", async () => {
  const env = { HTTPS_PROXY: "http://user:secret@127.0.0.1:1" };

  const refused = await cli("https://hub.test", ["recipes", "--retry", "0"], { env });

  expect(refused).toMatchObject({
    code: 69,
    stderr: "hub: cannot reach https://hub.test (HTTPS_PROXY is 127.0.0.1:1): connection refused\n",
  });
});

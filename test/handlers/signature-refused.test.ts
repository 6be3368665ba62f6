import { createServer } from "node:http";

import { expect, onTestFinished, test } from "vitest";

import { makeAgentKey } from "../../adapters/keys/agent-pair.ts";
import { httpTransport } from "../../handlers/agent-transport.ts";
import { requestSigner } from "../../host-agent/protocol/signature.ts";
import { close, listen } from "../../host-agent/system/http-listener.ts";

const NOW = 1_800_000_000_000;
const now = () => NOW;

/** The problem of a call to an agent that refuses every signature and whose clock differs from the edge's by this much. */
async function problemOf(headers: Record<string, string>): Promise<unknown> {
  let requests = 0;
  const agent = createServer((_incoming, outgoing) => {
    requests += 1;
    outgoing.sendDate = false;
    outgoing.writeHead(401, { "content-type": "application/json", connection: "close", ...headers });
    outgoing.end('{"code":"unauthenticated","detail":"Refused"}');
  });
  onTestFinished(() => close(agent, 0));
  const port = await listen(agent, { host: "127.0.0.1", port: 0 });
  const sign = await requestSigner(await makeAgentKey(), "host-agent", now);
  const send = httpTransport({
    url: `http://127.0.0.1:${port}`,
    fetch: (request) => fetch(request),
    sign,
    now,
  });
  const thrown = await send({ method: "GET", path: "/health" }).catch((error: unknown) => error);
  expect(requests, "a refused request is sent once more").toBe(2);
  return thrown;
}

const dated = (seconds: number) => ({ date: new Date(NOW + seconds * 1000).toUTCString() });

test.for([
  [
    dated(-3_600),
    "The clock of the edge is 3600 seconds ahead of the host's. The operator must set both clocks (NTP)",
  ],
  [dated(6), "The clock of the edge is 6 seconds behind the host's. The operator must set both clocks (NTP)"],
] as const)(
  "an agent that refuses the signature, with %j, is a 502 that names the clocks: %s",
  async ([headers, message]) => {
    expect(await problemOf(headers)).toMatchObject({
      code: "agent_error",
      status: 502,
      message,
      extras: { retryAfterSeconds: 2, cause: { message } },
    });
  },
);

test.for([dated(5), {}, { date: "soon" }])(
  "an agent that refuses the signature while the clocks agree, with %j, is a 502 whose reason only the log has",
  async (headers) => {
    expect(await problemOf(headers)).toMatchObject({
      code: "agent_error",
      status: 502,
      message: "The host gave no usable answer. The operator finds the cause in the log",
      extras: { retryAfterSeconds: 2, cause: { message: expect.stringContaining("refuses the signature") } },
    });
  },
);

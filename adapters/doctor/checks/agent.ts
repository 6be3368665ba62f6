import { setTimeout as sleep } from "node:timers/promises";

import { MAX_SKEW_SECONDS } from "../../../host-agent/protocol/signature.ts";
import type { RemoteAgentConfig } from "../../node/config.ts";
import { remoteAgent } from "../../node/serve.ts";
import { type Check, fail, type Finding, messageOf, pass, warn } from "../finding.ts";

const TIMEOUT_MS = 3_000;
/** An agent that has just started refuses signatures of an earlier second. */
const NEXT_SECOND_MS = 1_100;

/** The host-agent: embedded, or remote, where it must trust this edge's key. */
export const agent: Check = {
  name: "Host-agent",
  async look({ node }) {
    if (node === undefined) return [warn("It was not checked.", "Fix the settings first.")];
    if (node.remoteAgent === undefined) return [pass("It is embedded: the server starts it.")];
    return lookAt(node.remoteAgent);
  },
};

async function lookAt(remote: RemoteAgentConfig): Promise<Finding[]> {
  let response: Response;
  try {
    response = await askHealth(remote);
    if (response.status === 401) {
      await sleep(NEXT_SECOND_MS);
      response = await askHealth(remote);
    }
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return [
      fail(
        `The agent at ${remote.url} cannot be reached: ${messageOf(cause)}.`,
        "Check that it runs (npm run agent), and that its HUB_AGENT_LISTEN matches HUB_AGENT_URL here.",
      ),
    ];
  }
  return [...skew(response), trust(response, remote)];
}

async function askHealth(remote: RemoteAgentConfig): Promise<Response> {
  const wire = await remoteAgent(remote);
  const url = `${wire.url}/agent/v1/health`;
  const headers = await wire.sign!({ method: "GET", url, headers: new Headers() });
  headers.set("connection", "close");
  const request = new Request(url, { headers, redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
  const response = await wire.fetch(request);
  // Read to its end, so that the connection closes.
  return new Response(await response.arrayBuffer(), response);
}

function skew({ headers }: Response): Finding[] {
  const date = Date.parse(headers.get("date") ?? "");
  if (Number.isNaN(date)) return [];
  // The header has whole seconds.
  const seconds = Math.round((Date.now() - date - 500) / 1000);
  return [
    Math.abs(seconds) > MAX_SKEW_SECONDS
      ? fail(
          `The clock here and the agent's differ by ${seconds} s; more than ${MAX_SKEW_SECONDS} s are refused.`,
          "Run an NTP client on both hosts.",
        )
      : pass("The clock here agrees with the agent's."),
  ];
}

function trust({ status }: Response, { url, key, name }: RemoteAgentConfig): Finding {
  if (status === 200) return pass(`The agent at ${url} trusts the key ${key.kid}.`);
  if (status === 401) {
    return fail(
      `The agent at ${url} does not trust the key ${key.kid} under the name ${name}.`,
      "The agent's log has the reason. Create a new key pair (npm run keys -- agent-pair, on the agent's host), and set the same HUB_AGENT_NAME on both sides.",
    );
  }
  return fail(
    `Another server than the agent answers at ${url}, with ${status}.`,
    "Set HUB_AGENT_URL to the agent itself.",
  );
}

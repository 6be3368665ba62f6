import { once } from "node:events";
import { createServer } from "node:net";

import type { NodeConfig } from "../../node/config.ts";
import { type Check, fail, type Finding, messageOf, pass, warn } from "../finding.ts";
import { modeOfHub, originOf } from "../../client/mode-of-hub.ts";

/** The address of the API: free, or in use by a Hub. */
export const port: Check = {
  name: "Port",
  async look({ node }) {
    if (node === undefined) return [warn("It was not checked.", "Fix the settings first.")];
    const { host } = node;
    if (host.startsWith("unix:"))
      return [pass(`${host} is a Unix socket: no other program can take its port.`)];
    return [await lookAt(node), ...takeable(node)];
  },
};

async function lookAt(node: NodeConfig): Promise<Finding> {
  const { host, port: number } = node;
  const address = `${host.includes(":") ? `[${host}]` : host}:${number}`;
  const probe = createServer();
  try {
    probe.listen({ host, port: number });
    await once(probe, "listening");
    return pass(`${address} is free.`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EADDRINUSE" && (await modeOfHub(originOf(node)!))) {
      return pass(`${address} is served by a Hub.`);
    }
    return fail(
      `Nothing can listen on ${address}: ${messageOf(error)}.`,
      "Set HUB_HOST and HUB_PORT to a free address of this machine.",
    );
  } finally {
    probe.close();
  }
}

const FIRST_PORT_OF_ALL_USERS = 1024;

/** Whether a job can receive what clients send: it may end a service of its own user, and listen where that did. */
function takeable({ port: number, agent, remoteAgent }: NodeConfig): Finding[] {
  const isOpenToAll = number === 0 || number >= FIRST_PORT_OF_ALL_USERS;
  if (!isOpenToAll || remoteAgent !== undefined || agent.runAs !== undefined) return [];
  return [
    warn(
      "Jobs run as the user of the service. A job can end the service, listen on its port and receive the API keys of clients.",
      "Let systemd hold the port (hub.socket), or run the edge as another user than the agent (docs/deploy.md). Where that is done, or all scripts are yours, ignore this.",
    ),
  ];
}

import { once } from "node:events";
import { createServer } from "node:net";

import { type Check, fail, messageOf, pass, warn } from "../finding.ts";
import { modeOfHub, originOf } from "../../client/mode-of-hub.ts";

/** The address of the API: free, or in use by a Hub. */
export const port: Check = {
  name: "Port",
  async look({ node }) {
    if (node === undefined) return [warn("It was not checked.", "Fix the settings first.")];
    const { host, port: number } = node;
    const address = `${host.includes(":") ? `[${host}]` : host}:${number}`;
    const probe = createServer();
    try {
      probe.listen({ host, port: number });
      await once(probe, "listening");
      return [pass(`${address} is free.`)];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EADDRINUSE" && (await modeOfHub(originOf(node)))) {
        return [pass(`${address} is served by a Hub.`)];
      }
      return [
        fail(
          `Nothing can listen on ${address}: ${messageOf(error)}.`,
          "Set HUB_HOST and HUB_PORT to a free address of this machine.",
        ),
      ];
    } finally {
      probe.close();
    }
  },
};

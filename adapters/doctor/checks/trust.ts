import { dirname } from "node:path";

import { readDoorConfig } from "../../../host-agent/config.ts";
import { readTrustedKeyIds } from "../../../host-agent/inspection.ts";
import { statOf, strangersAt } from "../files.ts";
import { type Check, fail, messageOf, pass } from "../finding.ts";

/** On the host of a remote agent: the edges that it trusts, and who may change that. */
export const trust: Check = {
  name: "Trusted edges",
  look({ env, agent }) {
    let path: string;
    try {
      path = readDoorConfig(env).trustFile;
    } catch (error) {
      return [fail(`${messageOf(error)}.`, "All settings are in docs/configuration.md.")];
    }
    if (statOf(path) === undefined) {
      return env["HUB_AGENT_TRUST"] === undefined
        ? []
        : [fail(`${path} does not exist.`, "Create it with npm run keys -- agent-pair.")];
    }
    const strangers = strangersAt(path);
    if (strangers !== undefined) {
      return [fail(`${path} ${strangers}, who can add any edge.`, `chown and chmod 0600 ${path}`)];
    }
    const folder = dirname(path);
    const strangersAround = strangersAt(folder);
    // The check of the state folder reports that one.
    if (strangersAround !== undefined && folder !== agent.stateDir) {
      const advice = `chown it to root or the user of the service, and chmod go-w ${folder}`;
      return [fail(`${folder} ${strangersAround}: others may replace the trust file.`, advice)];
    }
    try {
      const kids = readTrustedKeyIds(path);
      return [pass(`${path} trusts ${kids.length === 0 ? "no edge" : kids.join(", ")}.`)];
    } catch (error) {
      const advice = "Fix it, or remove it and run npm run keys -- agent-pair.";
      return [fail(`${path} cannot be used: ${messageOf(error).replaceAll("\n", " ")}.`, advice)];
    }
  },
};

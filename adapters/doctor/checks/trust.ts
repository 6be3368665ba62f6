import { dirname } from "node:path";

import { readDoorConfig } from "../../../host-agent/config.ts";
import { readTrustedKeyIds } from "../../../host-agent/inspection.ts";
import { statOf, strangersAt } from "../files.ts";
import { type Check, fail, messageOf, pass } from "../finding.ts";

/** On the host of an agent with a door: whom it trusts, and who may change that. */
export const trust: Check = {
  name: "Trusted edges",
  look({ env, agent }) {
    let path: string;
    try {
      path = readDoorConfig(env).trustFile;
    } catch (error) {
      return [fail(`${messageOf(error)}.`, "docs/configuration.md has all settings.")];
    }
    if (statOf(path) === undefined) {
      return env["HUB_AGENT_TRUST"] === undefined
        ? []
        : [fail(`There is no ${path}.`, "npm run keys -- agent-pair makes a pair and trusts it.")];
    }
    const strangers = strangersAt(path);
    if (strangers !== undefined) {
      return [fail(`${path} ${strangers}, who can let any edge in.`, `chown and chmod 0600 ${path}`)];
    }
    const folder = dirname(path);
    const strangersBeside = strangersAt(folder);
    // Of the state folder it is said already.
    if (strangersBeside !== undefined && folder !== agent.stateDir) {
      const advice = `Give it to root or the user of the service, and chmod go-w ${folder}`;
      return [fail(`${folder} ${strangersBeside}: others may replace the trust file.`, advice)];
    }
    try {
      const kids = readTrustedKeyIds(path);
      return [pass(`${path} trusts ${kids.length === 0 ? "nobody" : kids.join(", ")}.`)];
    } catch (error) {
      const advice = "Mend it, or start again with npm run keys -- agent-pair.";
      return [fail(`${path} cannot be used: ${messageOf(error).replaceAll("\n", " ")}.`, advice)];
    }
  },
};
